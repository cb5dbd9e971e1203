"""The logic of taking an ONNX model from FP32 to a released INT8, free of Ansible.

Everything here runs on CPython 3.11 or newer on Linux and Windows. Inside Ansible the package is
`ansible.module_utils.modelops`, elsewhere plain `modelops`: its own imports are therefore relative.
"""

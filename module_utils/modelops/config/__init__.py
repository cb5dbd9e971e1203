"""Editing a configuration by bytes: find a block in YAML, change values, keep all the rest.

Gives the plan that names INT8 or FP32 and the way back, for YAML and for environment files. Only
finding and planning need PyYAML, on the controller. Imports base.
"""

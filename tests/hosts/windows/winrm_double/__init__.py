"""A WinRM server that plays a Windows 11 host: WS-Management on the wire, Wine behind it.

`ssh` is the other way in, through a real sshd.

`wire` is HTTP(S), authentication and message encryption; `wsman` is shells, commands and quotas;
`manifest` is what Ansible's PowerShell wrapper does with a module; `modules` are the upstream
modules that it plays; `programs` runs Windows programs. Whatever it does not know it refuses with a
text that begins with "double:": it never lets anything pass as done.

Written from MS-WSMV and MS-WSMAN, DSP0226 and the sources of ansible-core and ansible.windows.
"""

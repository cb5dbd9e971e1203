<#
.SYNOPSIS
    Lets one controller run Ansible on this Windows 11 PC over WinRM with HTTPS; -Undo takes it back.
.DESCRIPTION
    UNTESTED: written from the documentation, and not yet run on a real Windows. Run it with -WhatIf
    first: it then tells what it would change, and changes nothing.

    Each setting below has what it should be, how to read it and how to set it. One that is right
    stays as it is, so a second run changes nothing. What a setting was before is recorded, and -Undo
    sets that again. docs/windows-setup.md says why each is there.
.EXAMPLE
    .\setup.ps1 -Controller 192.168.1.20 -HostName agi-win-production.home.arpa -WhatIf
.EXAMPLE
    .\setup.ps1 -Undo
#>
#Requires -Version 5.1
#Requires -PSEdition Desktop
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Setup')]
param(
    # Addresses of the machine that runs Ansible: the firewall lets in no other.
    [Parameter(Mandatory, ParameterSetName = 'Setup')]
    [ipaddress[]] $Controller,

    # Names or addresses by which it reaches this PC (ansible_host): the certificate is for these.
    [Parameter(Mandatory, ParameterSetName = 'Setup')]
    [string[]] $HostName,

    # Addresses of the Linux targets. Only needed where this PC's firewall blocks what goes out.
    [Parameter(ParameterSetName = 'Setup')]
    [ipaddress[]] $Target,

    # The local account that Ansible logs on with (ansible_user), and the folder it may change.
    [Parameter(ParameterSetName = 'Setup')]
    [string] $User = 'sarai-builder',

    [Parameter(ParameterSetName = 'Setup')]
    [string] $Folder = 'C:\SARAi_v2',

    [Parameter(Mandatory, ParameterSetName = 'Undo')]
    [switch] $Undo
)

Set-StrictMode -Version 1.0
$ErrorActionPreference = 'Stop'

# Only administrators can write there.
$own = Join-Path -Path $env:ProgramFiles -ChildPath 'sarai-modelops'
$recordFile = Join-Path -Path $own -ChildPath 'setup.json'
$certificateFile = Join-Path -Path $own -ChildPath 'winrm-ca.pem'
$label = 'sarai-modelops WinRM'

function Get-AccountSid {
    (Get-LocalUser -Name $User -ErrorAction SilentlyContinue).SID
}

function Get-OwnCertificate {
    Get-ChildItem -Path Cert:\LocalMachine\My | Where-Object { $_.FriendlyName -like "$label*" }
}

function Get-Listener([string] $Transport) {
    Get-WSManInstance -ResourceURI winrm/config/Listener -Enumerate |
        Where-Object { $_.Transport -eq $Transport }
}

function Set-Listener([string] $Transport, [hashtable] $Values) {
    foreach ($listener in @(Get-Listener $Transport)) {
        $selectors = @{ Transport = $Transport; Address = $listener.Address }
        Remove-WSManInstance -ResourceURI winrm/config/Listener -SelectorSet $selectors
    }
    if ($Values) {
        $selectors = @{ Transport = $Transport; Address = '*' }
        New-WSManInstance -ResourceURI winrm/config/Listener -SelectorSet $selectors -ValueSet $Values
    }
}

function Get-RootDescriptor {
    $text = (Get-Item -Path WSMan:\localhost\Service\RootSDDL).Value
    [Security.AccessControl.CommonSecurityDescriptor]::new($false, $false, $text)
}

function Get-FolderRule {
    $sid = Get-AccountSid
    (Get-Acl -Path $Folder).GetAccessRules($true, $false, [Security.Principal.SecurityIdentifier]) |
        Where-Object { $sid -and $_.IdentityReference -eq $sid }
}

function Join-Address([object[]] $Addresses) {
    ($Addresses | ForEach-Object { "$_" } | Sort-Object) -join ','
}

$before = [ordered]@{}
if (Test-Path -Path $recordFile) {
    $record = Get-Content -Path $recordFile -Raw | ConvertFrom-Json
    if (-not $Undo -and ($record.User, $record.Folder -join '|') -ne ($User, $Folder -join '|')) {
        throw "This PC was set up for $($record.User) and $($record.Folder). First run .\setup.ps1 -Undo."
    }
    $User, $Folder = $record.User, $record.Folder
    foreach ($entry in $record.Before.PSObject.Properties) { $before[$entry.Name] = $entry.Value }
} elseif ($Undo) {
    throw "There is nothing to undo: $recordFile is not there."
}
if (-not $Undo -and -not (Test-Path -Path $Folder -PathType Container)) {
    throw "There is no folder $Folder. Make it, or name the right one with -Folder."
}
$public = Get-NetConnectionProfile | Where-Object { $_.NetworkCategory -eq 'Public' }
if ($public) {
    throw "Windows refuses to configure WinRM while a network is Public, here: $($public.InterfaceAlias -join ', ')." +
        ' If you trust it: Set-NetConnectionProfile -InterfaceAlias NAME -NetworkCategory Private. Then run this again.'
}

$readWSMan = { param($It) (Get-Item -Path $It.Path).Value }
$writeWSMan = { param($It, $Value) Set-Item -Path $It.Path -Value $Value -Force }
$readRule = {
    param($It)
    $rule = Get-NetFirewallRule -Name $It.Rule -ErrorAction SilentlyContinue
    if ($rule) { Join-Address ($rule | Get-NetFirewallAddressFilter).RemoteAddress }
}
$writeRule = {
    param($It, $Value)
    Remove-NetFirewallRule -Name $It.Rule -ErrorAction SilentlyContinue
    if ($Value) {
        $wanted = @{
            Name = $It.Rule
            DisplayName = "sarai-modelops: $($It.Name)"
            Direction = $It.Direction
            Action = 'Allow'
            Protocol = 'TCP'
            LocalPort = $It.LocalPort
            RemotePort = $It.RemotePort
            RemoteAddress = $Value.Split(',')
            Profile = 'Domain', 'Private'
        }
        New-NetFirewallRule @wanted
    }
}

# A value is a text; an empty one means that it is not there. $null: leave it as it is.
$settings = @(
    @{
        Name = 'start of the WinRM service'; Want = 'Automatic'
        Get = { (Get-Service -Name WinRM).StartType }
        Set = { param($It, $Value) Set-Service -Name WinRM -StartupType $Value }
    }
    @{
        Name = 'state of the WinRM service'; Want = 'Running'
        Get = { (Get-Service -Name WinRM).Status }
        Set = { param($It, $Value) Set-Service -Name WinRM -Status $Value }
    }
    @{
        # Not an administrator, and member of no group: what it may do follows.
        Name = "account $User"; Want = 'present'
        Get = { if (Get-AccountSid) { 'present' } }
        Set = {
            param($It, $Value)
            if ($Value) {
                $account = @{
                    Name = $User
                    Password = Read-Host -Prompt "A password for $User, for vault.yml too" -AsSecureString
                    Description = 'Ansible over WinRM (sarai-modelops)'
                    PasswordNeverExpires = $true
                    UserMayNotChangePassword = $true
                }
                New-LocalUser @account
            } else {
                # Windows made its profile when it first logged on.
                $sid = Get-AccountSid
                Get-CimInstance -ClassName Win32_UserProfile -Filter "SID = '$sid'" | Remove-CimInstance
                Remove-LocalUser -Name $User
            }
        }
    }
    @{
        # "Remote Management Users" opens PowerShell's own endpoint. The shell that Ansible's winrm
        # connection opens is guarded by this descriptor alone.
        Name = "right of $User to WinRM"; Want = 'read, execute'
        Get = {
            $sid = Get-AccountSid
            $entries = (Get-RootDescriptor).DiscretionaryAcl | Where-Object { $_.SecurityIdentifier -eq $sid }
            if ($sid -and $entries) { 'read, execute' }
        }
        Set = {
            param($It, $Value)
            $descriptor, $sid = (Get-RootDescriptor), (Get-AccountSid)
            $generic = 0x80000000 -bor 0x20000000 # GENERIC_READ, GENERIC_EXECUTE
            if ($Value) {
                $descriptor.DiscretionaryAcl.AddAccess('Allow', $sid, $generic, 'None', 'None')
            } else {
                $descriptor.PurgeAccessControl($sid)
            }
            Set-Item -Path WSMan:\localhost\Service\RootSDDL -Value $descriptor.GetSddlForm('All') -Force
        }
    }
    @{
        Name = "right of $User to $Folder"; Want = 'modify'
        Get = { if (Get-FolderRule) { 'modify' } }
        Set = {
            param($It, $Value)
            $acl = Get-Acl -Path $Folder
            if ($Value) {
                $inherit = 'ContainerInherit, ObjectInherit'
                $acl.AddAccessRule([Security.AccessControl.FileSystemAccessRule]::new(
                        (Get-AccountSid), 'Modify', $inherit, 'None', 'Allow'))
            } else {
                $acl.PurgeAccessRules((Get-AccountSid))
            }
            Set-Acl -Path $Folder -AclObject $acl
        }
    }
    @{
        # Self-signed and no CA: who trusts the file trusts this PC, and nothing that it could sign.
        Name = 'certificate'; Want = "${label}: $HostName"
        Get = {
            $certificate = Get-OwnCertificate
            if ($certificate -and $certificate.NotAfter -lt (Get-Date).AddDays(30)) { 'expires:' }
            $certificate.FriendlyName
        }
        Set = {
            param($It, $Value)
            foreach ($old in @(Get-OwnCertificate)) {
                Remove-Item -Path "Cert:\LocalMachine\My\$($old.Thumbprint)" -DeleteKey
            }
            if ($Value) {
                $names = foreach ($name in $HostName) {
                    if ($name -as [ipaddress]) { "IPAddress=$name" } else { "DNS=$name" }
                }
                $request = @{
                    FriendlyName = $Value
                    Subject = "CN=$($HostName[0])"
                    TextExtension = "2.5.29.17={text}$($names -join '&')", '2.5.29.37={text}1.3.6.1.5.5.7.3.1'
                    CertStoreLocation = 'Cert:\LocalMachine\My'
                    KeyAlgorithm = 'RSA'
                    KeyLength = 3072
                    HashAlgorithm = 'SHA256'
                    KeyExportPolicy = 'NonExportable'
                    NotAfter = (Get-Date).AddYears(5)
                }
                $made = New-SelfSignedCertificate @request
                $base64 = [Convert]::ToBase64String($made.RawData, 'InsertLineBreaks')
                $lines = '-----BEGIN CERTIFICATE-----', $base64, '-----END CERTIFICATE-----'
                Set-Content -Path $certificateFile -Value $lines -Encoding Ascii
            }
        }
    }
    @{
        Name = 'certificate of the HTTPS listener'; Want = { (Get-OwnCertificate).Thumbprint }
        Get = { (Get-Listener HTTPS).CertificateThumbprint }
        Set = {
            param($It, $Value)
            Set-Listener HTTPS $(if ($Value) { @{ CertificateThumbprint = $Value; Enabled = $true } })
        }
    }
    @{
        Name = 'HTTP listener'; Want = ''
        Get = { if (Get-Listener HTTP) { 'present' } }
        Set = { param($It, $Value) Set-Listener HTTP $(if ($Value) { @{ Enabled = $true } }) }
    }
    @{
        Name = 'Basic authentication'; Want = 'false'
        Path = 'WSMan:\localhost\Service\Auth\Basic'; Get = $readWSMan; Set = $writeWSMan
    }
    @{
        Name = 'Negotiate authentication (NTLM)'; Want = 'true'
        Path = 'WSMan:\localhost\Service\Auth\Negotiate'; Get = $readWSMan; Set = $writeWSMan
    }
    @{
        Name = 'unencrypted messages'; Want = 'false'
        Path = 'WSMan:\localhost\Service\AllowUnencrypted'; Get = $readWSMan; Set = $writeWSMan
    }
    @{
        Name = 'remote shells'; Want = 'true'
        Path = 'WSMan:\localhost\Shell\AllowRemoteShellAccess'; Get = $readWSMan; Set = $writeWSMan
    }
    @{
        # Enough for every call: what takes more runs as a job, outside of the shell. 0 is no limit.
        Name = 'MB of memory for a shell'
        Want = {
            $now = [int](Get-Item -Path WSMan:\localhost\Shell\MaxMemoryPerShellMB).Value
            if ($now -ne 0 -and $now -lt 1024) { 1024 } else { $now }
        }
        Path = 'WSMan:\localhost\Shell\MaxMemoryPerShellMB'; Get = $readWSMan; Set = $writeWSMan
    }
    @{
        Name = 'firewall: WinRM over HTTPS from'; Want = Join-Address $Controller
        Rule = 'sarai-modelops-winrm'; Direction = 'Inbound'; LocalPort = 5986; RemotePort = 'Any'
        Get = $readRule; Set = $writeRule
    }
    @{
        Name = 'firewall: SSH to the targets'; Want = if ($Target) { Join-Address $Target }
        Rule = 'sarai-modelops-ssh'; Direction = 'Outbound'; LocalPort = 'Any'; RemotePort = 22
        Get = $readRule; Set = $writeRule
    }
    @{
        Name = 'paths of more than 260 characters'; Want = '1'
        Path = 'HKLM:\SYSTEM\CurrentControlSet\Control\FileSystem'
        Get = { param($It) (Get-ItemProperty -Path $It.Path).LongPathsEnabled }
        Set = {
            param($It, $Value)
            if ($Value) {
                New-ItemProperty -Path $It.Path -Name LongPathsEnabled -PropertyType DWord -Value $Value -Force
            } else {
                Remove-ItemProperty -Path $It.Path -Name LongPathsEnabled
            }
        }
    }
)

function Save-Record {
    $null = New-Item -Path $own -ItemType Directory -Force
    $record = @{ User = $User; Folder = $Folder; Before = $before }
    Set-Content -Path $recordFile -Value (ConvertTo-Json -InputObject $record) -Encoding UTF8
}

function Set-Setting([hashtable] $Setting, [string] $Want) {
    $is = "$(& $Setting.Get $Setting)"
    if ($is -eq $Want -or -not $PSCmdlet.ShouldProcess($Setting.Name, "change '$is' to '$Want'")) {
        return
    }
    if (-not $Undo -and -not $before.Contains($Setting.Name)) {
        # Before it is changed: a run that is broken off can be undone too.
        $before[$Setting.Name] = $is
        Save-Record
    }
    $null = & $Setting.Set $Setting $Want
    Write-Output "changed: $($Setting.Name): '$is' -> '$Want'"
}

if ($WhatIfPreference -and (Get-Service -Name WinRM).Status -ne 'Running') {
    Write-Output 'WinRM is not running, so its settings cannot be read yet: this is only the beginning.'
    $settings = $settings[0..1]
}
if ($Undo) {
    [array]::Reverse($settings)
    foreach ($setting in $settings | Where-Object { $before.Contains($_.Name) }) {
        Set-Setting $setting $before[$setting.Name]
    }
    Remove-Item -Path $own -Recurse
    return
}
foreach ($setting in $settings | Where-Object { $null -ne $_.Want }) {
    $want = if ($setting.Want -is [scriptblock]) { & $setting.Want } else { $setting.Want }
    Set-Setting $setting "$want"
}
if ($WhatIfPreference) { return }
foreach ($certificate in @(Get-OwnCertificate)) {
    $digest = [Security.Cryptography.SHA256]::Create().ComputeHash($certificate.RawData)
    Write-Output "Everything is as it should be. Bring $certificateFile to the controller, and compare there"
    Write-Output "its SHA-256 fingerprint: $([BitConverter]::ToString($digest) -replace '-', ':')"
}

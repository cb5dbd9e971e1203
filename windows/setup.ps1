<#
.SYNOPSIS
    Lets one controller run Ansible on this Windows 11 PC, over WinRM with HTTPS or over SSH with a
    key; -Undo takes it back.
.DESCRIPTION
    Runs in Windows PowerShell 5.1 and in PowerShell 7. Not yet run on a real Windows: begin with
    -WhatIf, which tells what would change, and changes nothing.

    Each setting below has what it should be, how to read it and how to set it. One that is right
    stays as it is, so a second run changes nothing. What a setting was before is recorded, and -Undo
    sets that again. One that fails does not keep the others back: the end names all that failed.
    -PublicKey chooses SSH. docs/windows-setup.md says why each setting is there.
.EXAMPLE
    .\setup.ps1 -Controller 192.168.1.20 -HostName agi-win-production.home.arpa -WhatIf
.EXAMPLE
    .\setup.ps1 -Controller 192.168.1.20 -PublicKey 'ssh-ed25519 AAAA... ansible'
.EXAMPLE
    .\setup.ps1 -Undo
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess, DefaultParameterSetName = 'Setup', PositionalBinding = $false)]
param(
    # Addresses of the machine that runs Ansible: the firewall lets in no other.
    [Parameter(Mandatory, ParameterSetName = 'Setup')]
    [Parameter(Mandatory, ParameterSetName = 'Ssh')]
    [string[]] $Controller,

    # Names or addresses by which it reaches this PC (ansible_host): the certificate is for these.
    [Parameter(Mandatory, ParameterSetName = 'Setup')]
    [string[]] $HostName,

    # The controller's public key, the line of its .pub file: SSH is set up, and WinRM is left alone.
    [Parameter(Mandatory, ParameterSetName = 'Ssh')]
    [string] $PublicKey,

    # Addresses of the Linux targets. Only needed where this PC's firewall blocks what goes out.
    [Parameter(ParameterSetName = 'Setup')]
    [Parameter(ParameterSetName = 'Ssh')]
    [string[]] $Target,

    # The local account that Ansible logs on with (ansible_user), and the folder it may change.
    [Parameter(ParameterSetName = 'Setup')]
    [Parameter(ParameterSetName = 'Ssh')]
    [string] $User = 'sarai-builder',

    [Parameter(ParameterSetName = 'Setup')]
    [Parameter(ParameterSetName = 'Ssh')]
    [string] $Folder = 'C:\SARAi_v2',

    [Parameter(Mandatory, ParameterSetName = 'Undo')]
    [switch] $Undo
)

Set-StrictMode -Version 1.0
$ErrorActionPreference = 'Stop'
if ("$($ExecutionContext.SessionState.LanguageMode)" -ne 'FullLanguage') {
    throw 'A policy of this PC (AppLocker, App Control) lets scripts do next to nothing: the language mode is' +
    " $($ExecutionContext.SessionState.LanguageMode). Ansible's own scripts would fail, too. Lift it for them first."
}

if (-not [Environment]::Is64BitProcess) {
    throw 'This PowerShell is a 32-bit one ("x86"), to which Windows shows other settings. Start the other one.'
}

# Only administrators can write there.
$own = [IO.Path]::Combine($env:ProgramFiles, 'sarai-modelops')
$recordFile = [IO.Path]::Combine($own, 'setup.json')
$certificateFile = [IO.Path]::Combine($own, 'winrm-ca.pem')
$store = 'Cert:\LocalMachine\My'
$label = 'sarai-modelops WinRM'
$description = 'Ansible over WinRM (sarai-modelops)'
# What one of the two ways needs is left alone where the other is set up.
$over = if ($PublicKey) { 'SSH' } else { 'WinRM' }
$sshCapability = 'OpenSSH.Server~~~~0.0.1.0'
$sshFolder = [IO.Path]::Combine($env:ProgramData, 'ssh')
$sshConfig = [IO.Path]::Combine($sshFolder, 'sshd_config')
$sshRegistry = 'HKLM:\SOFTWARE\OpenSSH'

# --- What was asked for

function Test-Address([string] $Text) {
    # A cast to [ipaddress] takes 192.168.1, too, as 192.168.0.1.
    $address = $Text -as [ipaddress]
    $address -and ($Text.Contains(':') -or "$address" -eq $Text)
}

function Assert-Parameter {
    $list = 'A list that comes by -File is one text: start the script from a PowerShell window.'
    $word = '[a-z0-9]([a-z0-9-]*[a-z0-9])?'
    $problems = @(
        foreach ($name in $HostName) {
            if (-not (Test-Address $name) -and $name -notmatch "^$word(\.$word)*\z") {
                "-HostName '$name' is no host name and no address. $list"
            }
        }
        foreach ($address in @($Controller) + @($Target) | Where-Object { $null -ne $_ }) {
            if (-not (Test-Address $address)) {
                "-Controller or -Target '$address' is no address. $list"
            }
        }
        if ($PublicKey -and $PublicKey -cnotmatch '^[a-z0-9@.-]+ [A-Za-z0-9+/]{40,}={0,2}( [ !#-:<-~]*)?\z') {
            '-PublicKey is no public key: give the one line of a .pub file, in quotes.'
        }
        if ($User -notmatch '^[a-z0-9_-][a-z0-9_.-]{0,19}\z') {
            "-User '$User' is no name for an account: at most 20 letters of a to z, digits, '.', '_' and '-'."
        }
        if ($Folder -notmatch '^([a-z]:[\\/]|\\\\|/)') {
            "-Folder '$Folder' depends on where this is started: name the whole path, from the drive on."
        } elseif (-not (Test-Path -LiteralPath $Folder -PathType Container)) {
            "There is no folder $Folder. Make it, or name the right one with -Folder."
        }
    )
    if ($problems) { throw ($problems -join [Environment]::NewLine) }
}

function Join-Address([string[]] $Addresses) {
    ($Addresses | ForEach-Object { "$([ipaddress] $_)" } | Sort-Object -Unique) -join ','
}

function Read-Password {
    $first = Read-Host -Prompt "A password for $User, for vault.yml too" -AsSecureString
    $again = Read-Host -Prompt 'The same again' -AsSecureString
    $texts = foreach ($one in $first, $again) { [Net.NetworkCredential]::new('', $one).Password }
    if (-not $texts[0]) { throw 'The password is empty. Nothing was changed: run this again.' }
    if ($texts[0] -cne $texts[1]) { throw 'The two passwords differ. Nothing was changed: run this again.' }
    $first
}

function Get-RandomPassword {
    # With a key nobody needs it, so nobody gets to know it.
    $bytes = [byte[]]::new(32)
    [Security.Cryptography.RandomNumberGenerator]::Create().GetBytes($bytes)
    [Net.NetworkCredential]::new('', "$([Convert]::ToBase64String($bytes))-aA1").SecurePassword
}

# --- The account and its certificate

function Get-Account {
    Get-LocalUser -Name $User -ErrorAction SilentlyContinue
}

function Get-AccountSid([switch] $Needed) {
    # In PowerShell 7 the module runs in 5.1 and hands over texts, so a text it is everywhere.
    # What is left of an account that -Undo removed is known by the SID in the record.
    $account = Get-Account
    $sid = if ($account) { "$($account.SID)" } elseif ($Undo) { $record.Sid }
    if ($Needed -and -not $sid) { throw "there is no account $User" }
    $sid
}

function Get-OwnCertificate {
    Get-ChildItem -LiteralPath $store | Where-Object { $_.FriendlyName -like "$label*" }
}

function Save-Certificate {
    $base64 = [Convert]::ToBase64String(@(Get-OwnCertificate)[0].RawData, 'InsertLineBreaks')
    $lines = '-----BEGIN CERTIFICATE-----', $base64, '-----END CERTIFICATE-----'
    $null = New-Item -Path $own -ItemType Directory -Force
    Set-Content -LiteralPath $certificateFile -Value $lines -Encoding Ascii
}

# --- WinRM: its own drive and cmdlets

function Assert-WinRM {
    # While it is stopped, the drive WSMan: asks whether to start it, and waits for an answer.
    $status = "$((Get-Service -Name WinRM).Status)"
    if ($status -ne 'Running') { throw "the WinRM service is $status" }
}

function Get-WinRMValue([string] $Name) {
    Assert-WinRM
    (Get-Item -LiteralPath "WSMan:\localhost\$Name").Value
}

function Set-WinRMValue([string] $Name, [string] $Value) {
    Assert-WinRM
    Set-Item -LiteralPath "WSMan:\localhost\$Name" -Value $Value -Force
}

function Get-Listener([string] $Transport) {
    Assert-WinRM
    Get-WSManInstance -ResourceURI winrm/config/Listener -Enumerate |
        Where-Object { $_.Transport -eq $Transport }
}

function Get-ListenerText([string] $Transport) {
    # All that makes a listener again: address|port|host name|thumbprint|enabled.
    $texts = foreach ($one in @(Get-Listener $Transport)) {
        $thumbprint = $one.CertificateThumbprint -replace '\s'
        $one.Address, $one.Port, $one.Hostname, $thumbprint, $one.Enabled -join '|'
    }
    ($texts | Sort-Object) -join ' '
}

function Set-Listener([string] $Transport, [string] $Value) {
    foreach ($listener in @(Get-Listener $Transport)) {
        $selectors = @{ Transport = $Transport; Address = $listener.Address }
        Remove-WSManInstance -ResourceURI winrm/config/Listener -SelectorSet $selectors
    }
    foreach ($text in $Value.Split(' ') | Where-Object { $_ }) {
        $address, $port, $name, $thumbprint, $enabled = $text.Split('|')
        $selectors = @{ Transport = $Transport; Address = $address }
        $values = @{ Port = $port; Hostname = $name; CertificateThumbprint = $thumbprint; Enabled = $enabled }
        foreach ($key in @($values.Keys)) { if (-not $values[$key]) { $values.Remove($key) } }
        New-WSManInstance -ResourceURI winrm/config/Listener -SelectorSet $selectors -ValueSet $values
    }
}

# --- Rights: as texts (SDDL), the one form that WinRM and the file system share

$rightBits = @{
    GA = '10000000'; GX = '20000000'; GW = '40000000'; GR = '80000000'
    FA = '1F01FF'; FR = '120089'; FW = '120116'; FX = '1200A0'
    CC = '1'; DC = '2'; LC = '4'; SW = '8'; RP = '10'; WP = '20'; DT = '40'; LO = '80'; CR = '100'
    SD = '10000'; RC = '20000'; WD = '40000'; WO = '80000'
}
$names = @{
    SY = 'S-1-5-18'; BA = 'S-1-5-32-544'; CO = 'S-1-3-0'; OW = 'S-1-3-4'; BU = 'S-1-5-32-545'; AU = 'S-1-5-11'
    WD = 'S-1-1-0'; IU = 'S-1-5-4'; NU = 'S-1-5-2'; BG = 'S-1-5-32-546'; AN = 'S-1-5-7'
}
$readAndExecute = '0x1200a9'
$modify = '0x1301bf'
# Add files, add folders, delete, delete children, change rights, take ownership; GA, GW.
$changing = [Convert]::ToInt64('500D0046', 16)

function Get-Mask([string] $Rights) {
    if ($Rights -like '0x*') { return [Convert]::ToInt64($Rights.Substring(2), 16) }
    $mask = [long] 0
    foreach ($right in [regex]::Matches($Rights, '..')) {
        if (-not $rightBits.ContainsKey($right.Value)) { throw "an unknown right: $Rights" }
        $mask = $mask -bor [Convert]::ToInt64($rightBits[$right.Value], 16)
    }
    $mask
}

function Split-Descriptor([string] $Text) {
    $form = '^(?<start>.*?)D:(?<flags>[A-Z]*)(?<entries>(\([^()]*\))*)(?<end>(S:.*)?)$'
    if (-not ($Text -cmatch $form)) { throw "rights of a form that this script does not know: $Text" }
    $start, $flags, $end = $Matches.start, $Matches.flags, $Matches.end
    $entries = foreach ($entry in [regex]::Matches($Matches.entries, '\([^()]*\)')) {
        $part = $entry.Value.Trim('(', ')').Split(';')
        @{
            Text = $entry.Value
            Sid = if ($names[$part[5]]) { $names[$part[5]] } else { $part[5] }
            Flags = $part[1]; Mask = Get-Mask $part[2]
            Denies = $part[0] -like '*D'; Inherited = $part[1] -match 'ID'
        }
    }
    @{ Start = $start; Flags = $flags; Entries = @($entries | Where-Object { $_ }); End = $end }
}

function Get-GrantedMask([hashtable] $Descriptor, [string] $Wanted) {
    # The rights of the account's own entries; an entry that denies is somebody's decision.
    $sid = Get-AccountSid
    $mask = [long] 0
    foreach ($entry in $Descriptor.Entries | Where-Object { $sid -and $_.Sid -eq $sid }) {
        if ($entry.Denies) { throw "an entry denies it to ${User}: $($entry.Text). Remove that one first" }
        if ($entry.Flags -match $Wanted) { $mask = $mask -bor $entry.Mask }
    }
    $mask
}

function Get-RootDescriptor {
    Split-Descriptor (Get-WinRMValue 'Service\RootSDDL')
}

function Get-FolderDescriptor {
    Split-Descriptor (Get-Acl -LiteralPath $Folder).Sddl
}

function Set-FolderAccess([string] $Flags, [string[]] $Entries) {
    $acl = Get-Acl -LiteralPath $Folder
    $acl.SetSecurityDescriptorSddlForm("D:$Flags$($Entries -join '')", 'Access')
    Set-Acl -LiteralPath $Folder -AclObject $acl
}

function Get-Owner([hashtable] $Descriptor) {
    if ($Descriptor.Start -cmatch '^O:(.+?)(G:|$)') { $Matches[1] }
}

function Get-Stranger([hashtable] $Descriptor) {
    # Entries that let others change the folder: not the system, administrators, the owner, the account.
    $trusted = 'LA', $names.SY, $names.BA, $names.CO, $names.OW
    $installer = 'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464'
    $trusted = $trusted + $installer + (Get-Owner $Descriptor) + (Get-AccountSid)
    foreach ($entry in $Descriptor.Entries) {
        if (-not $entry.Denies -and ($entry.Mask -band $changing) -and $entry.Sid -notin $trusted) { $entry }
    }
}

function Protect-Folder {
    $descriptor = Get-FolderDescriptor
    $strangers = @(Get-Stranger $descriptor)
    $given = @($strangers | Where-Object { -not $_.Inherited } | ForEach-Object { $_.Sid })
    if ($given) {
        throw "$Folder itself lets $($given -join ', ') change it: somebody set that. If nobody should:" +
        " icacls `"$Folder`" /remove:g *SID. Then run this again"
    }
    $owner = Get-Owner $descriptor
    $texts = @(foreach ($entry in $descriptor.Entries) {
            $type = if ($entry.Denies) { 'D' } else { 'A' }
            $flags = $entry.Flags -replace 'ID'
            $rights = if ($entry.Text -in $strangers.Text) { $readAndExecute } else { $entry.Text.Split(';')[2] }
            "($type;$flags;$rights;;;$($entry.Sid))"
        })
    if ($owner -like 'S-1-5-21-*') { $texts += "(A;OICI;$modify;;;$owner)" }
    Set-FolderAccess 'P' $texts
}

# --- The right to log on at the PC: Windows has no cmdlet for it, and secedit on every edition

function Invoke-SecEdit([string] $Arguments) {
    # Its exit code also tells of warnings: what is read afterwards decides.
    Start-Process -FilePath secedit.exe -ArgumentList $Arguments -WindowStyle Hidden -Wait
}

function Get-DeniedLogon([string] $Base) {
    Invoke-SecEdit "/export /areas USER_RIGHTS /cfg `"$Base.inf`""
    $line = Get-Content -LiteralPath "$Base.inf" | Where-Object { $_ -like 'SeDenyInteractiveLogonRight*' }
    "$line".Split('=')[-1].Split(',').Trim() | Where-Object { $_ }
}

function Use-Temporary([scriptblock] $Work) {
    # Also with -WhatIf: these files are the script's own, and tell what the PC has.
    $WhatIfPreference = $false
    $base = [IO.Path]::GetTempPath() + [guid]::NewGuid()
    try { & $Work $base } finally {
        foreach ($file in "$base.inf", "$base.sdb", "$base.jfm") {
            Remove-Item -LiteralPath $file -Force -ErrorAction SilentlyContinue
        }
    }
}

function Test-LogonDenied {
    $mine = "*$(Get-AccountSid)", $User
    [bool](Use-Temporary { param($Base) Get-DeniedLogon $Base | Where-Object { $_ -in $mine } })
}

function Set-LogonDenied([bool] $Denied) {
    $sid = Get-AccountSid -Needed
    Use-Temporary {
        param($Base)
        $accounts = @(Get-DeniedLogon $Base | Where-Object { $_ -notin "*$sid", $User })
        if ($Denied) { $accounts += "*$sid" }
        $lines = '[Unicode]', 'Unicode=yes', '[Version]', 'signature="$CHICAGO$"', 'Revision=1',
        '[Privilege Rights]', "SeDenyInteractiveLogonRight = $($accounts -join ',')"
        Set-Content -LiteralPath "$Base.inf" -Value $lines -Encoding Unicode
        Invoke-SecEdit "/configure /db `"$Base.sdb`" /cfg `"$Base.inf`" /areas USER_RIGHTS /quiet"
    }
}

# --- The firewall: its functions do not see $ErrorActionPreference, so each is told

function Get-Rule([hashtable] $It) {
    $rule = Get-NetFirewallRule -ErrorAction Stop | Where-Object { $_.Name -eq $It.Rule }
    if (-not $rule) { return }
    $filter = $rule | Get-NetFirewallPortFilter -ErrorAction Stop
    $addresses = ($rule | Get-NetFirewallAddressFilter -ErrorAction Stop).RemoteAddress
    $is = $rule.Enabled, $rule.Action, $rule.Direction, $filter.Protocol, $filter.LocalPort, $filter.RemotePort
    $should = 'True', 'Allow', $It.Direction, 'TCP', $It.LocalPort, $It.RemotePort
    if ("$is" -ne "$should") { "wrong: $is" }
    ($addresses -replace '/(32|128|255\.255\.255\.255)$' | Sort-Object -Unique) -join ','
}

function Set-Rule([hashtable] $It, [string] $Value) {
    if (Get-Rule $It) { Remove-NetFirewallRule -Name $It.Rule -ErrorAction Stop }
    if (-not $Value) { return }
    $wanted = @{
        Name = $It.Rule
        DisplayName = "sarai-modelops: $($It.Name)"
        Enabled = 'True'
        Direction = $It.Direction
        Action = 'Allow'
        Protocol = 'TCP'
        RemoteAddress = $Value.Split(',')
        LocalPort = $It.LocalPort
        RemotePort = $It.RemotePort
        Profile = 'Domain', 'Private'
    }
    New-NetFirewallRule @wanted -ErrorAction Stop
}

function Test-PortText([string] $Text, [int] $Port) {
    $first, $last = $Text.Split('-')
    if (-not $last) { $last = $first }
    ($first, $last -match '^\d+$').Count -eq 2 -and [int] $first -le $Port -and $Port -le [int] $last
}

function Get-OtherRule([int] $Port) {
    $filters = Get-NetFirewallPortFilter -PolicyStore ActiveStore -Protocol TCP -ErrorAction Stop |
        Where-Object { @($_.LocalPort) | Where-Object { Test-PortText $_ $Port } }
    if (-not $filters) { return }
    $filters | Get-NetFirewallRule -PolicyStore ActiveStore -ErrorAction Stop |
        Where-Object { "$($_.Enabled) $($_.Direction)" -eq 'True Inbound' -and $_.Name -notlike 'sarai-modelops-*' }
}

function Show-OtherRule([int] $Port) {
    try { $rules = @(Get-OtherRule $Port) } catch {
        Write-Warning "Whether other firewall rules are for port $Port, too, cannot be read: $($_.Exception.Message)"
        return
    }
    foreach ($rule in $rules) {
        $does = if ("$($rule.Action)" -eq 'Allow') { 'lets others in' } else { 'may keep the controller out' }
        Write-Warning ("The firewall rule '$($rule.DisplayName)' for port $Port $does." +
            " If you do not need it: Disable-NetFirewallRule -Name '$($rule.Name)'")
    }
}

function Get-SshRule {
    # The rule that comes with the server lets in everybody. Only where this script brought the
    # server: another one may have other users.
    if ($before['OpenSSH server'] -ne '') { return }
    Get-NetFirewallRule -ErrorAction Stop | Where-Object { $_.Name -eq 'OpenSSH-Server-In-TCP' }
}

# --- The SSH server: its texts are read and written byte by byte (Latin 1)

$latin = [Text.Encoding]::GetEncoding(28591)
$mark = '# sarai-modelops'

function Test-SshServer {
    [bool](Get-Service -Name sshd -ErrorAction SilentlyContinue)
}

function Set-SshServer([string] $Value) {
    # Not Remove-Service: what Windows brought, Windows takes away.
    if ($Value) { $null = Add-WindowsCapability -Online -Name $sshCapability }
    else { $null = Remove-WindowsCapability -Online -Name $sshCapability }
}

function Get-SshLines([string] $File) {
    if (Test-Path -LiteralPath $File) { [IO.File]::ReadAllText($File, $latin).TrimEnd() -split '\r?\n' }
}

function Write-Whole([string] $File, [string] $Text, [Text.Encoding] $Encoding) {
    # The file is the old one or the new one, and keeps its rights.
    [IO.File]::WriteAllText("$File.new", $Text, $Encoding)
    if (-not (Test-Path -LiteralPath $File)) { [IO.File]::Move("$File.new", $File); return }
    [IO.File]::Replace("$File.new", $File, [NullString]::Value)
}

function Get-SshBlock {
    # Our lines of sshd_config, between two marks.
    $inside = $false
    $lines = foreach ($line in @(Get-SshLines $sshConfig)) {
        if ($line -eq "$mark end") { $inside = $false }
        if ($inside) { $line }
        if ($line -eq "$mark begin") { $inside = $true }
    }
    $lines -join '; '
}

function Set-SshBlock([string] $Value) {
    # Last in the file, where a block changes nothing for anybody else. sshd makes the file when it
    # starts for the first time: one of ours alone would lack what Windows wants of all others.
    if (-not (Test-Path -LiteralPath $sshConfig)) { throw "sshd has not made $sshConfig yet: run this again" }
    $inside = $false
    $lines = @(foreach ($line in @(Get-SshLines $sshConfig)) {
            if ($line -eq "$mark begin") { $inside = $true }
            if (-not $inside) { $line }
            if ($line -eq "$mark end") { $inside = $false }
        })
    if ($inside) { throw "$sshConfig has '$mark begin' and no '$mark end': mend it by hand" }
    if ($Value) { $lines += @("$mark begin") + ($Value -split '; ') + "$mark end" }
    Write-Whole $sshConfig (($lines -join "`r`n") + "`r`n") $latin
    if (Test-SshServer) { Restart-Service -Name sshd -Force }
}

function Get-KeyFile {
    # Not in the profile: that is made at the first logon, and the account could write it.
    [IO.Path]::Combine($sshFolder, "${User}_authorized_keys")
}

function Get-AccountKey {
    $file = Get-KeyFile
    if (-not (Test-Path -LiteralPath $file)) { return }
    $trusted = $names.SY, $names.BA
    $sid = Get-AccountSid
    foreach ($entry in (Split-Descriptor (Get-Acl -LiteralPath $file).Sddl).Entries) {
        if ($entry.Sid -in $trusted -or ($entry.Sid -eq $sid -and -not ($entry.Mask -band $changing))) { continue }
        "wrong: rights $($entry.Text)" # sshd would refuse the file
    }
    (@(Get-SshLines $file)) -join '; '
}

function Set-AccountKey([string] $Value) {
    $file = Get-KeyFile
    if (-not $Value) {
        Remove-Item -LiteralPath $file -Force
        return
    }
    $sid = Get-AccountSid -Needed
    [IO.File]::WriteAllText($file, (($Value -split '; ') -join "`r`n") + "`r`n", $latin)
    $acl = Get-Acl -LiteralPath $file
    $acl.SetSecurityDescriptorSddlForm("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FR;;;$sid)", 'Access')
    Set-Acl -LiteralPath $file -AclObject $acl
}

function Set-DefaultShell([string] $Value) {
    if ($Value) {
        if (-not (Test-Path -LiteralPath $sshRegistry)) { $null = New-Item -Path $sshRegistry }
        $shell = @{ LiteralPath = $sshRegistry; Name = 'DefaultShell'; Value = $Value }
        New-ItemProperty @shell -PropertyType String -Force
    } else {
        Remove-ItemProperty -LiteralPath $sshRegistry -Name DefaultShell
    }
}

# --- Networks: on a Public one Windows refuses to change WinRM

function Get-PublicRemedy {
    $profiles = $hidden = @()
    try {
        $profiles = @(Get-NetConnectionProfile -ErrorAction Stop)
        $seen = @($profiles | ForEach-Object { $_.InterfaceAlias })
        $hidden = @(Get-NetAdapter -IncludeHidden -ErrorAction Stop |
                Where-Object { "$($_.Status)" -eq 'Up' -and $_.Name -notin $seen })
    } catch {
        "(They cannot all be listed: $($_.Exception.Message))" # the refusal itself must not be hidden
    }
    'Windows refuses to change WinRM while a network is Public. The networks of this PC:'
    $profiles | ForEach-Object { "  $($_.InterfaceAlias): $($_.NetworkCategory)" }
    $hidden | ForEach-Object { "  $($_.Name): without a profile, which may count as Public (Hyper-V, WSL, a VPN)" }
    'If you trust one: Set-NetConnectionProfile -InterfaceAlias NAME -NetworkCategory Private.'
    "One without a profile: end the VPN or 'wsl --shutdown', or Disable-NetAdapter -Name NAME until this is done."
    'Then run this again.'
}

function Test-PublicRefusal([Management.Automation.ErrorRecord] $Fault) {
    # 0x80338169, as WinRM writes it in any language.
    "$($Fault.Exception.HResult) $($Fault.Exception.Message)" -match '2150859113|-2144108183|80338169'
}

# --- The settings. A value is a text; an empty one means that it is not there.
# Want: $null leaves it as it is; a script block gets what it is. Keep: what to record instead.

$readValue = { param($It) Get-WinRMValue $It.Path }
$writeValue = { param($It, $Value) Set-WinRMValue $It.Path $Value }
# What is gone went with its server: -Undo has nothing to set there.
$readService = {
    param($It)
    if ($Undo -and -not (Get-Service -Name $It.Service -ErrorAction SilentlyContinue)) { return $before[$It.Name] }
    (Get-Service -Name $It.Service).($It.Path)
}
$readRule = { param($It) Get-Rule $It }
$writeRule = { param($It, $Value) Set-Rule $It $Value }

function Get-AllSettings {
    @{
        Name = 'start of the WinRM service'; Want = 'Automatic'; Over = 'WinRM'
        Service = 'WinRM'; Path = 'StartType'; Get = $readService
        Set = { param($It, $Value) Set-Service -Name $It.Service -StartupType $Value }
    }
    @{
        Name = 'state of the WinRM service'; Want = 'Running'; Over = 'WinRM'
        Service = 'WinRM'; Path = 'Status'; Get = $readService
        Set = { param($It, $Value) Set-Service -Name $It.Service -Status $Value }
    }
    @{
        # Not an administrator, and member of no group: what it may do follows.
        Name = "account $User"; Want = 'present'
        Get = { if (Get-Account) { 'present' } }
        Set = { param($It, $Value) Set-Account $Value }
    }
    @{
        # "Remote Management Users" opens PowerShell's own endpoint. The shell that Ansible's winrm
        # connection opens is guarded by this descriptor alone.
        Name = "right of $User to WinRM"; Want = 'read, execute'; Over = 'WinRM'
        Get = {
            $needed = Get-Mask 'GXGR'
            if (((Get-GrantedMask (Get-RootDescriptor) '') -band $needed) -eq $needed) { 'read, execute' }
        }
        Set = {
            param($It, $Value)
            $root, $sid = (Get-RootDescriptor), (Get-AccountSid -Needed)
            $texts = @($root.Entries | Where-Object { $_.Sid -ne $sid } | ForEach-Object { $_.Text })
            if ($Value) { $texts += "(A;;GXGR;;;$sid)" }
            Set-WinRMValue 'Service\RootSDDL' "$($root.Start)D:$($root.Flags)$($texts -join '')$($root.End)"
        }
    }
    @{
        Name = "right of $User to $Folder"; Want = 'modify'
        Get = {
            $needed = Get-Mask $modify
            if (((Get-GrantedMask (Get-FolderDescriptor) '^OICI(ID)?$') -band $needed) -eq $needed) { 'modify' }
        }
        Set = {
            param($It, $Value)
            $now, $sid = (Get-FolderDescriptor), (Get-AccountSid -Needed)
            $others = @($now.Entries | Where-Object { $_.Sid -ne $sid })
            # What is inherited comes last.
            $texts = @($others | Where-Object { -not $_.Inherited } | ForEach-Object { $_.Text })
            if ($Value) { $texts += "(A;OICI;$modify;;;$sid)" }
            $texts += @($others | Where-Object { $_.Inherited } | ForEach-Object { $_.Text })
            Set-FolderAccess $now.Flags $texts
        }
    }
    @{
        # A folder right below C:\ inherits that every account of the PC may change it.
        Name = "others who may change $Folder"; Want = ''
        Get = { @(Get-Stranger (Get-FolderDescriptor)).Sid | Sort-Object -Unique }
        Keep = { $now = Get-FolderDescriptor; "$($now.Flags) $($now.Entries.Text -join '')" }
        Set = {
            param($It, $Value)
            $flags, $entries = $Value.Split(' ', 2)
            if ($Value) { Set-FolderAccess $flags $entries } else { Protect-Folder }
        }
    }
    @{
        # Self-signed and no CA: who trusts the file trusts this PC, and nothing that it could sign.
        Name = 'certificate'; Want = "${label}: $HostName"; Over = 'WinRM'
        Get = {
            $certificate = Get-OwnCertificate
            if ($certificate -and $certificate.NotAfter -lt (Get-Date).AddDays(30)) { 'wrong: expires' }
            $certificate.FriendlyName
        }
        Keep = { '' }
        Set = { param($It, $Value) Set-OwnCertificate $Value }
    }
    @{
        Name = 'certificate of the HTTPS listener'; Over = 'WinRM'
        Want = {
            $certificate = Get-OwnCertificate
            if ($certificate) { return $certificate.Thumbprint }
            if ($WhatIfPreference) { 'that of the new certificate' } else { throw 'there is no certificate for it' }
        }
        Get = {
            foreach ($listener in @(Get-Listener HTTPS)) {
                if ("$($listener.Enabled)" -eq 'false') { 'wrong: disabled' }
                if ($listener.Port -and "$($listener.Port)" -ne '5986') { "wrong: port $($listener.Port)" }
                $listener.CertificateThumbprint
            }
        }
        Keep = { Get-ListenerText HTTPS }
        Set = { param($It, $Value) Set-Listener HTTPS $(if ($Undo) { $Value } else { "*|5986||$Value|true" }) }
    }
    @{
        Name = 'HTTP listener'; Want = ''; Over = 'WinRM'
        Get = { Get-ListenerText HTTP }
        Set = { param($It, $Value) Set-Listener HTTP $Value }
    }
    @{
        Name = 'Basic authentication'; Want = 'false'; Over = 'WinRM'
        Path = 'Service\Auth\Basic'; Get = $readValue; Set = $writeValue
    }
    @{
        Name = 'Negotiate authentication (NTLM)'; Want = 'true'; Over = 'WinRM'
        Path = 'Service\Auth\Negotiate'; Get = $readValue; Set = $writeValue
    }
    @{
        Name = 'unencrypted messages'; Want = 'false'; Over = 'WinRM'
        Path = 'Service\AllowUnencrypted'; Get = $readValue; Set = $writeValue
    }
    @{
        Name = 'remote shells'; Want = 'true'; Over = 'WinRM'
        Path = 'Shell\AllowRemoteShellAccess'; Get = $readValue; Set = $writeValue
    }
    @{
        # Enough for every call: what takes more runs as a job, outside of the shell. 0 is no limit.
        Name = 'MB of memory for a shell'; Over = 'WinRM'
        Want = {
            param($Is)
            $now = $Is -as [int]
            if ($null -eq $now) { '1024 or more' } elseif ($now -in 1..1023) { 1024 } else { $Is }
        }
        Path = 'Shell\MaxMemoryPerShellMB'; Get = $readValue; Set = $writeValue
    }
    @{
        Name = 'firewall: WinRM over HTTPS from'; Want = if ($Controller) { Join-Address $Controller }; Over = 'WinRM'
        Rule = 'sarai-modelops-winrm'; Direction = 'Inbound'; LocalPort = '5986'; RemotePort = 'Any'
        Get = $readRule; Set = $writeRule
    }
    @{
        Name = 'OpenSSH server'; Want = 'installed'; Over = 'SSH'
        Get = { if (Test-SshServer) { 'installed' } }
        Set = { param($It, $Value) Set-SshServer $Value }
    }
    @{
        Name = 'start of the sshd service'; Want = 'Automatic'; Over = 'SSH'
        Service = 'sshd'; Path = 'StartType'; Get = $readService
        Set = { param($It, $Value) Set-Service -Name $It.Service -StartupType $Value }
    }
    @{
        Name = 'state of the sshd service'; Want = 'Running'; Over = 'SSH'
        Service = 'sshd'; Path = 'Status'; Get = $readService
        Set = { param($It, $Value) Set-Service -Name $It.Service -Status $Value }
    }
    @{
        # For the whole PC: sshd knows one.
        Name = 'default shell of sshd'; Over = 'SSH'
        Want = "$env:SystemRoot\System32\WindowsPowerShell\v1.0\powershell.exe"
        Get = {
            if (Test-Path -LiteralPath $sshRegistry) { (Get-ItemProperty -LiteralPath $sshRegistry).DefaultShell }
        }
        Set = { param($It, $Value) Set-DefaultShell $Value }
    }
    @{
        Name = "key of $User"; Over = 'SSH'
        Want = if ($Controller) { "restrict,from=`"$(Join-Address $Controller)`" $PublicKey" }
        Get = { Get-AccountKey }
        Set = { param($It, $Value) Set-AccountKey $Value }
    }
    @{
        # A block ends at the next one: what somebody adds below is for all again. sshd compares small letters.
        Name = "sshd_config: $User"; Over = 'SSH'
        Want = "Match User $("$User".ToLowerInvariant());" +
        " AuthorizedKeysFile __PROGRAMDATA__/ssh/${User}_authorized_keys;" +
        ' AuthenticationMethods publickey; DisableForwarding yes; Match all'
        Get = { Get-SshBlock }
        Set = { param($It, $Value) Set-SshBlock $Value }
    }
    @{
        Name = 'firewall: SSH from'; Want = if ($Controller) { Join-Address $Controller }; Over = 'SSH'
        Rule = 'sarai-modelops-sshd'; Direction = 'Inbound'; LocalPort = '22'; RemotePort = 'Any'
        Get = $readRule; Set = $writeRule
    }
    @{
        Name = "firewall: the server's own rule"; Over = 'SSH'
        Want = { if (Get-SshRule) { 'False' } elseif ($WhatIfPreference -and -not (Test-SshServer)) { 'False' } }
        Get = { param($It) if ($Undo -and -not (Get-SshRule)) { $before[$It.Name] } else { (Get-SshRule).Enabled } }
        Set = { param($It, $Value) Set-NetFirewallRule -Name OpenSSH-Server-In-TCP -Enabled $Value -ErrorAction Stop }
    }
    @{
        Name = 'firewall: SSH to the targets'; Want = if ($Target) { Join-Address $Target }
        Rule = 'sarai-modelops-ssh'; Direction = 'Outbound'; LocalPort = 'Any'; RemotePort = '22'
        Get = $readRule; Set = $writeRule
    }
    @{
        Name = 'paths of more than 260 characters'; Want = '1'
        Path = 'HKLM:\SYSTEM\CurrentControlSet\Control\FileSystem'
        Get = { param($It) (Get-ItemProperty -LiteralPath $It.Path).LongPathsEnabled }
        Set = { param($It, $Value) Set-LongPaths $It.Path $Value }
    }
    @{
        # Only of an account that this script made: another one may be somebody's own.
        Name = "logon of $User at the PC"
        Want = { $account = Get-Account; if (-not $account -or $account.Description -eq $description) { 'denied' } }
        Get = { if ((Get-AccountSid) -and (Test-LogonDenied)) { 'denied' } }
        Set = { param($It, $Value) Set-LogonDenied ([bool] $Value) }
    }
}

function Set-Account([string] $Value) {
    if ($Value) {
        $account = @{
            Name = $User
            Password = $password
            Description = $description
            PasswordNeverExpires = $true
            UserMayNotChangePassword = $true
        }
        New-LocalUser @account -ErrorAction Stop
        return
    }
    # Windows made its profile when it first logged on.
    $sid = Get-AccountSid
    Get-CimInstance -ClassName Win32_UserProfile -Filter "SID = '$sid'" | Remove-CimInstance
    Remove-LocalUser -Name $User -ErrorAction Stop
}

function Set-OwnCertificate([string] $Value) {
    foreach ($old in @(Get-OwnCertificate)) {
        Remove-Item -LiteralPath "$store\$($old.Thumbprint)" -DeleteKey
    }
    if (-not $Value) { return }
    $names = foreach ($name in $HostName) {
        if (Test-Address $name) { "IPAddress=$name" } else { "DNS=$name" }
    }
    $request = @{
        FriendlyName = $Value
        Subject = "CN=$($HostName[0])"
        TextExtension = "2.5.29.17={text}$($names -join '&')", '2.5.29.37={text}1.3.6.1.5.5.7.3.1'
        CertStoreLocation = $store
        KeyAlgorithm = 'RSA'
        KeyLength = 3072
        HashAlgorithm = 'SHA256'
        KeyExportPolicy = 'NonExportable'
        NotAfter = (Get-Date).AddYears(5)
    }
    $null = New-SelfSignedCertificate @request -ErrorAction Stop
    Save-Certificate
}

function Set-LongPaths([string] $Path, [string] $Value) {
    if ($Value) {
        New-ItemProperty -LiteralPath $Path -Name LongPathsEnabled -PropertyType DWord -Value $Value -Force
    } else {
        Remove-ItemProperty -LiteralPath $Path -Name LongPathsEnabled
    }
}

# --- What is done

function Read-Record {
    if (-not (Test-Path -LiteralPath $recordFile)) { return }
    try { Get-Content -LiteralPath $recordFile -Raw | ConvertFrom-Json } catch {
        throw "$recordFile, which says what was before, cannot be read: $($_.Exception.Message)." +
        ' Move it away to set up without it; what it says is then yours to undo.'
    }
}

function Save-Record {
    $null = New-Item -Path $own -ItemType Directory -Force
    $text = ConvertTo-Json -InputObject @{ User = $User; Folder = $Folder; Sid = Get-AccountSid; Before = $before }
    Write-Whole $recordFile $text ([Text.Encoding]::UTF8) # with a mark, by which 5.1 knows it
}

function Use-Told([scriptblock] $Work) {
    try { & $Work } catch {
        if (-not $WhatIfPreference) { throw }
        "unknown: $($_.Exception.Message)" # -WhatIf tells all the same
    }
}

function Get-Value([hashtable] $Setting) {
    Use-Told { "$(& $Setting.Get $Setting)" }
}

function Set-Setting([hashtable] $Setting, $Want) {
    $is = Get-Value $Setting
    if ($Want -is [scriptblock]) { $Want = Use-Told { & $Want $is } }
    if ($null -eq $Want -or $is -eq "$Want") {
        if ($WhatIfPreference) { Write-Output "stays: $($Setting.Name): '$is'" }
        return
    }
    if (-not $PSCmdlet.ShouldProcess($Setting.Name, "change '$is' to '$Want'")) { return }
    $ConfirmPreference = 'None' # asked once is enough
    if (-not $Undo -and -not $before.Contains($Setting.Name)) {
        # Before it is changed: a run that is broken off can be undone too.
        $keep = if ($Setting.Keep) { & $Setting.Keep } else { $is }
        $before[$Setting.Name] = if ($keep -like 'wrong: *') { '' } else { $keep }
        Save-Record
    }
    $null = & $Setting.Set $Setting "$Want"
    $now = Get-Value $Setting
    $silent = $Undo -and $Setting.Keep # what is recorded is not what Get tells
    if ($now -ne "$Want" -and -not $silent) { throw "it was set to '$Want', and is still '$now'" }
    Write-Output "changed: $($Setting.Name): '$is' -> '$now'"
}

function Invoke-All([hashtable[]] $All) {
    $failed = @()
    $remedy = @()
    foreach ($setting in $All) {
        try { Set-Setting $setting $setting.Want } catch {
            $failed += "$($setting.Name): $($_.Exception.Message)"
            if (Test-PublicRefusal $_) { $remedy = @(Get-PublicRemedy) }
        }
    }
    if ($failed) {
        $kept = if (Test-Path -LiteralPath $recordFile) { " $recordFile still has what was before." }
        throw (@("These failed; all else was done.$kept") + $failed + $remedy -join [Environment]::NewLine)
    }
}

function Show-SshResult {
    $file = [IO.Path]::Combine($sshFolder, 'ssh_host_ed25519_key.pub')
    $kind, $key = ([IO.File]::ReadAllText($file) -split '\s+')[0..1]
    $digest = [Security.Cryptography.SHA256]::Create().ComputeHash([Convert]::FromBase64String($key))
    Write-Output 'Everything is as it should be. On the controller put this line into known_hosts, behind the name of'
    Write-Output "this PC (ansible_host) and a space: $kind $key"
    Write-Output "or compare there its fingerprint: SHA256:$([Convert]::ToBase64String($digest).TrimEnd('='))"
}

function Show-Result {
    foreach ($certificate in @(Get-OwnCertificate)) {
        if (-not (Test-Path -LiteralPath $certificateFile)) { Save-Certificate }
        $digest = [Security.Cryptography.SHA256]::Create().ComputeHash($certificate.RawData)
        Write-Output "Everything is as it should be. Bring $certificateFile to the controller, and compare there"
        Write-Output "its SHA-256 fingerprint: $([BitConverter]::ToString($digest) -replace '-', ':')"
    }
}

if ($PSVersionTable.PSEdition -eq 'Core' -and $IsWindows) {
    # These modules are of 5.1 alone, or fail in 7 (New-LocalUser does).
    $modules = @{ Name = 'Microsoft.PowerShell.LocalAccounts', 'PKI'; UseWindowsPowerShell = $true }
    Import-Module @modules -WarningAction SilentlyContinue
}
$before = [ordered]@{}
$record = Read-Record
if ($record) {
    if (-not $Undo -and ($record.User, $record.Folder -join '|') -ne ($User, $Folder -join '|')) {
        throw "This PC was set up for $($record.User) and $($record.Folder). First run .\setup.ps1 -Undo."
    }
    $User, $Folder = $record.User, $record.Folder
    foreach ($entry in $record.Before.PSObject.Properties) { $before[$entry.Name] = $entry.Value }
} elseif ($Undo) {
    throw "There is nothing to undo: $recordFile is not there."
}
if (-not $Undo) { Assert-Parameter }
$settings = @(Get-AllSettings | Where-Object { $Undo -or -not $_.Over -or $_.Over -eq $over })

if ($Undo) {
    # WinRM's settings can be read and set only while it runs. In the end it is what it was.
    $start = @(if ($settings | Where-Object { $_.Over -eq 'WinRM' -and $before.Contains($_.Name) }) { $settings[0..1] })
    foreach ($setting in $start) {
        if (-not $before.Contains($setting.Name)) { $before[$setting.Name] = Get-Value $setting }
    }
    [array]::Reverse($settings)
    $back = @(foreach ($setting in $settings | Where-Object { $before.Contains($_.Name) }) {
            $copy = $setting.Clone()
            $copy.Want = $before[$setting.Name]
            $copy
        })
    Invoke-All ($start + $back)
    # Only now: who has to run it again needs the record.
    Remove-Item -LiteralPath $own -Recurse -Force
    return
}
$public = Get-NetConnectionProfile -ErrorAction Stop | Where-Object { "$($_.NetworkCategory)" -eq 'Public' }
if ($public -and $over -eq 'WinRM') {
    $text = @(Get-PublicRemedy) -join [Environment]::NewLine
    if ($WhatIfPreference) { Write-Warning $text } else { throw $text }
} elseif ($public) {
    Write-Warning "A network of this PC is Public: $($public.InterfaceAlias -join ', '). The rule for SSH is for others."
}
if (-not $WhatIfPreference -and -not (Get-Account)) {
    $password = if ($over -eq 'SSH') { Get-RandomPassword } else { Read-Password }
}
Invoke-All $settings
Show-OtherRule $(if ($over -eq 'SSH') { 22 } else { 5986 })
if ($WhatIfPreference) { return }
if ($over -eq 'SSH') { Show-SshResult } else { Show-Result }

#!/bin/bash
# Makes a Debian tree a host of the test bed: rootfs.sh FOLDER USER HOME UNIT...
set -euo pipefail
root=$1 user=$2 home=$3
shift 3
chroot "$root" useradd --create-home --shell /bin/bash "$user"
echo "$user ALL=(ALL) NOPASSWD:ALL" > "$root/etc/sudoers.d/$user"
chmod 440 "$root/etc/sudoers.d/$user"
printf 'PasswordAuthentication no\nUseDNS no\nGSSAPIAuthentication no\n' > "$root/etc/ssh/sshd_config.d/bed.conf"
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root/etc/hostname" "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
mkdir -p "$root/var/log/journal" "$root/opt/sarai/site" "$root/opt/sarai/app"
for unit in "$@"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done

# The service's own Python: packages of the bed's cache, shared read-only.
chroot "$root" python3 -m venv --without-pip /opt/sarai/venv
echo /opt/sarai/site > "$root/opt/sarai/venv/lib/python3.11/site-packages/site.pth"
install -m 644 /dev/stdin "$root/etc/systemd/system/sarai.service" < "$(dirname "$0")/sarai/sarai.service"
chroot "$root" install -d -o "$user" -g "$user" "$home" "$home/config" "$home/models"

cat > "$root/usr/local/lib/bed-init" <<'INIT'
#!/bin/sh
# Gives this host its name, keys and model disk, before anything else starts.
set -e
cp /run/bed/hosts /run/bed/hostname /etc/
install -m 600 /run/bed/ssh_host_ed25519_key /etc/ssh/
install -m 644 /run/bed/ssh_host_ed25519_key.pub /etc/ssh/
install -d -m 700 -o noel -g noel /home/noel/.ssh
install -m 600 -o noel -g noel /run/bed/authorized_keys /home/noel/.ssh/
chown noel:noel /home/noel/SARAi_v2/models
INIT
sed -i "s/noel/$user/g" "$root/usr/local/lib/bed-init"
chmod 755 "$root/usr/local/lib/bed-init"
cat > "$root/etc/systemd/system/bed-init.service" <<'UNIT'
[Unit]
Description=Name, keys and model disk of this host
DefaultDependencies=no
After=systemd-remount-fs.service systemd-sysusers.service
Before=sysinit.target ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/bed-init
[Install]
WantedBy=sysinit.target
UNIT
mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
ln -sf ../bed-init.service "$root/etc/systemd/system/sysinit.target.wants/bed-init.service"

cat > "$root/usr/local/lib/bed-systemd" <<'INIT'
#!/bin/sh
# nspawn mounts the controllers read-only: this host's own cgroups must be writable for systemd.
for controller in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$controller" 2>/dev/null; done
exec /lib/systemd/systemd "$@"
INIT
chmod 755 "$root/usr/local/lib/bed-systemd"

#!/bin/bash
# Boots one host of the test bed, in a private mount and PID namespace: all mounts below, the loop
# device of the model disk included, go away with its last process. Called by bed.py alone.
set -euo pipefail
for controller in /sys/fs/cgroup/*/; do
  [ -w "$controller" ] || continue
  mkdir -p "$controller$BED/$BED_HOST" 2>/dev/null || continue
  if [ -f "${controller}cpuset.cpus" ]; then
    for group in "$BED" "$BED/$BED_HOST"; do
      cat "${controller}cpuset.cpus" > "$controller$group/cpuset.cpus"
      cat "${controller}cpuset.mems" > "$controller$group/cpuset.mems"
    done
  fi
  echo $$ > "$controller$BED/$BED_HOST/cgroup.procs"
done
work=$BED_STATE/$BED_HOST.w
mkdir -p /run/systemd/nspawn "$work"/{upper,work,root,disk}
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t overlay -o "lowerdir=$BED_ROOTFS,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
mount -o loop "$BED_STATE/$BED_HOST.img" "$work/disk"
# Left unset: "0" (pure cgroup v1) hangs logins and poweroff.
unset SYSTEMD_NSPAWN_UNIFIED_HIERARCHY
exec systemd-nspawn --quiet --register=no --keep-unit --directory="$work/root" \
  --machine="$BED_HOST" --hostname="$BED_HOST" --network-namespace-path="/run/netns/$BED-$BED_HOST" \
  --bind-ro="$BED_STATE/$BED_HOST.d:/run/bed" --bind="$work/disk:$BED_HOME/models" \
  --bind-ro="$BED_SITE:/opt/sarai/site" --bind-ro="$BED_APP:/opt/sarai/app" \
  --console=pipe --kill-signal=SIGRTMIN+3 --resolv-conf=off --timezone=off --link-journal=no \
  /usr/local/lib/bed-systemd

#!/bin/sh
# First process of the guest kernel that support/uml.py boots: uml_init.sh FOLDER ROOT PYTHON
# FOLDER is the only part of the machine's files that the guest can write. In it lie the environment
# (environment.sh) and pytest's arguments (arguments); reports and status come back through it.
set -eu
folder=$1 root=$2 python=$3

# Whatever happens, the guest ends: without its first process it would hang until its time is up.
power_off() { mountpoint -q /proc || mount -t proc proc /proc; echo o > /proc/sysrq-trigger; sleep 60; }
trap power_off EXIT

if [ "${UML_STAGE:-}" != second ]; then
    # The machine's files are mounted read-only. A memory file system on top takes all writes, so
    # that tests write where they like and the machine stays as it is.
    mount -t tmpfs -o mode=755 guest /mnt
    mkdir -p /mnt/lib/modules /mnt/written /mnt/work /mnt/root
    ln -s "/usr/lib/uml/modules/$(uname -r)" "/mnt/lib/modules/$(uname -r)"
    modprobe --dirname /mnt overlay
    mount -t overlay -o lowerdir=/,upperdir=/mnt/written,workdir=/mnt/work overlay /mnt/root
    cd /mnt/root
    pivot_root . mnt
    export UML_STAGE=second
    exec chroot . /bin/sh "$0" "$@"
fi
unset UML_STAGE

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount --move /mnt/dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=755 run /run
mount -t hostfs -o "$folder" reports "$folder"

mkdir -p /lib/modules
ln -sfn "/usr/lib/uml/modules/$(uname -r)" "/lib/modules/$(uname -r)"
for module in 8021q bonding bridge dummy ipv6 ipvlan macvlan veth vrf vxlan; do
    # A module that is not there shows itself in the test that needs it, by the kernel's own words.
    modprobe --quiet "$module" || echo "guest: no module $module"
done
hostname guest
ip link set lo up

. "$folder/environment.sh"
cd "$root"
set +e
# Plugins are chosen before pytest reads a file of arguments. The order is the host's; the cache too.
"$python" -m pytest -p no:randomly -p no:cacheprovider "@$folder/arguments"
echo $? > "$folder/status"

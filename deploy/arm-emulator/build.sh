#!/bin/bash
# Makes the folder that LATHE_ARM_EMULATOR names: QEMU for 64-bit ARM, and a Python for ARM with the runtimes' wheels.
# A worker of cpu-arm64 on x86 compares packages with their source in it. Times that pass there say nothing about ARM.
#
#   deploy/arm-emulator/build.sh FOLDER
#
# Needs apt-get and dpkg-deb of Debian or Ubuntu on x86-64, the keys of Debian's archive (debian-archive-keyring), pip of
# Python 3.11 (PIP=… names another), and 350 MB. It installs nothing on the machine and needs no root.
# QEMU is that of Debian 13: the one of Debian 12 (7.2) ends with a fault when it runs these wheels.
# CPU=… chooses the processor: neoverse-n1 (asimdhp, asimddp), cortex-a72 (neither), max.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
repository=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
pip=${PIP:-"python3.11 -m pip"}
cpu=${CPU:-neoverse-n1}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # fetch SUITE ARCHITECTURE PACKAGE…: their .deb files, in the working folder
  local suite=$1 architecture=$2
  shift 2
  local apt=$work/apt-$suite
  mkdir -p "$apt"/{sources,state/lists/partial,cache/archives/partial,debs}
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: %s\nSigned-By: %s\n' \
    "$mirror" "$suite" "$architecture" "$keys" > "$apt/sources/debian.sources"
  printf '%s\n' "Dir::Etc::SourceList \"/dev/null\";" "Dir::Etc::SourceParts \"$apt/sources\";" \
    "Dir::State \"$apt/state\";" "Dir::State::status \"/dev/null\";" "Dir::Cache \"$apt/cache\";" \
    "APT::Architecture \"$architecture\";" "APT::Sandbox::User \"\";" > "$apt/apt.conf"
  APT_CONFIG=$apt/apt.conf apt-get update --quiet=2
  (cd "$apt/debs" && APT_CONFIG=$apt/apt.conf apt-get download --quiet=2 "$@")
}

fetch trixie amd64 qemu-user
dpkg-deb --fsys-tarfile "$work"/apt-trixie/debs/qemu-user_*.deb | tar --extract --directory="$work" ./usr/bin/qemu-aarch64
cp "$work/usr/bin/qemu-aarch64" "$folder/qemu-aarch64"

fetch bookworm arm64 gcc-12-base libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal \
  libpython3.11-stdlib libsqlite3-0 libssl3 libstdc++6 libuuid1 python3.11-minimal zlib1g
rm -rf "$folder/sysroot"
mkdir "$folder/sysroot"
for package in "$work"/apt-bookworm/debs/*.deb; do dpkg-deb --extract "$package" "$folder/sysroot"; done

# What the openers import, in the versions that Lathe is tested with.
wheels=(numpy onnxruntime ai-edge-litert flatbuffers protobuf packaging)
$pip install --quiet --no-deps --target "$folder/sysroot/opt/packages" --only-binary=:all: \
  --python-version 3.11 --implementation cp --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
  --platform manylinux2014_aarch64 --constraint "$repository/constraints.txt" "${wheels[@]}"

cat > "$folder/python" <<EOF
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
export PYTHONPATH=/opt/packages
exec "\$here/qemu-aarch64" -cpu $cpu -L "\$here/sysroot" "\$here/sysroot/usr/bin/python3.11" -B -s "\$@"
EOF
chmod +x "$folder/python"
"$folder/python" - > "$folder/VERSION" <<EOF
from importlib.metadata import version
names = ("onnxruntime", "ai-edge-litert", "numpy")
qemu = "$("$folder/qemu-aarch64" --version | sed -n '1s/.*version \([^ ]*\).*/\1/p')"
print(f"qemu-aarch64 {qemu} as $cpu with", ", ".join(f"{name} {version(name)}" for name in names))
EOF
cat "$folder/VERSION"

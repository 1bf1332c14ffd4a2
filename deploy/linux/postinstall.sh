#!/bin/sh
# Runs after the package is installed or upgraded. Nothing is started that was not: port 53 may be taken. A service that runs goes on
# with the new program.
set -e
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers coredns-multivalue.conf
elif ! getent passwd coredns-multivalue >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/coredns-multivalue --no-create-home --shell /usr/sbin/nologin coredns-multivalue
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart coredns-multivalue
fi
# An upgrade: dpkg gives the version before as the second word, rpm a count of 2 as the first.
if [ -n "$2" ] || [ "$1" = 2 ]; then
    exit 0
fi
echo "coredns-multivalue is installed, and not started. Edit /etc/coredns-multivalue/Corefile, then run:"
echo "    systemctl enable --now coredns-multivalue"

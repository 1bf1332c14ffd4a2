#!/bin/sh
# Runs after the package is installed or upgraded. Nothing is started: port 53 may be taken. A service that runs goes on with
# the new program when it is restarted.
set -e
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers coredns-multivalue.conf
elif ! getent passwd coredns-multivalue >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/coredns-multivalue --no-create-home --shell /usr/sbin/nologin coredns-multivalue
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
echo "coredns-multivalue is installed, and not started. Edit /etc/coredns-multivalue/Corefile, then run:"
echo "    systemctl enable --now coredns-multivalue"

#!/bin/sh
# Runs after the package is removed or upgraded. Only dpkg has a purge, which takes the saved verdicts too. The user stays, as is usual: its
# number must not pass to another.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
if [ "$1" = purge ]; then
    rm -rf /var/lib/coredns-multivalue
fi

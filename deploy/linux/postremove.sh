#!/bin/sh
# Runs after the package is removed or upgraded.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi

#!/bin/sh
# Runs before the package is removed, or upgraded: only a removal stops the service.
set -e
case "$1" in
remove | 0)
    if [ -d /run/systemd/system ]; then
        systemctl disable --now coredns-multivalue
    fi
    ;;
esac

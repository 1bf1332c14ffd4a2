//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// enterNamespace says that this program is for Linux.
func enterNamespace() (inside bool, err error) {
	return false, errors.New("needs network namespaces: use Linux")
}

// withUs does nothing here.
func withUs() *syscall.SysProcAttr { return nil }

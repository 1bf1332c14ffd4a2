package pool

import (
	"testing"
	"unsafe"
)

// What a shared target costs beside the pointer that each monitor has.
func TestSharedIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(shared{}); size > 80 {
		t.Errorf("%d bytes a shared target, want at most 80", size)
	}
}

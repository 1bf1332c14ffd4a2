package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A program that is asked for is beside the other one, without a capability. One for another machine, and one that is missing, are
// refused.
func TestBeside(t *testing.T) {
	one, other := program(t, "GOARCH=amd64"), program(t, "GOARCH=arm64")
	copyTo := func(from string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(filepath.Dir(one), "tool"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	o := full
	o.Beside = "tool"
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := Save(out, "it:1", []string{one}, o); err == nil || !strings.Contains(err.Error(), "tool") {
		t.Errorf("without it: %v", err)
	}
	copyTo(other)
	if err := Save(out, "it:1", []string{one}, o); err == nil || !strings.Contains(err.Error(), "is for linux/arm64") {
		t.Errorf("for another machine: %v", err)
	}
	copyTo(one)
	_, index := made(t, "it:1", []string{one}, o)
	image, err := index.Image(manifest(t, index).Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	files, content := tree(t, image)
	if !slices.Contains(files, "tool") || content["tool"].Mode != 0o755 || len(content["tool"].PAXRecords) != 0 {
		t.Errorf("%q, %+v", files, content["tool"])
	}
}

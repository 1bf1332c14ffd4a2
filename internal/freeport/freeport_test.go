package freeport

import (
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

// The ports differ, and the system does not give them to anything else.
func TestFind(t *testing.T) {
	all, err := Find(50)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 50 || all[0] < lowest || all[49] > highest || highest >= 32768 {
		t.Errorf("%d", all)
	}
}

// A port that is taken over TCP or UDP is left out.
func TestFindsFreePorts(t *testing.T) {
	port := ports.Free(t)
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if got, err := find(1, port, port); err != nil || !slices.Equal(got, []int{port}) {
		t.Errorf("%d, %v", got, err)
	}
	if got, err := find(2, port, port); err == nil {
		t.Errorf("two ports of one: %d", got)
	}
	l := ports.Listen(t, at)
	if got, err := find(1, port, port); err == nil {
		t.Errorf("taken over TCP: %d", got)
	}
	l.Close()
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := find(1, port, port); err == nil {
		t.Errorf("taken over UDP: %d", got)
	}
}

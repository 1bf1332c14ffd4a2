//go:build unix

package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A member whose key is not what it has written last writes nothing, and what it has said is not lost. It is tried by hand, since the
// watch would tell the writer.
func TestNothingIsWrittenWithoutTheKey(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	m := open(t, configOf(c))
	t.Cleanup(m.Leave)
	ctx, own, err := m.link.connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer m.link.disconnect(own)
	w := m.writer
	w.started = time.Now()
	write := func() error {
		m.Turn(false)
		now := time.Now()
		return w.write(ctx, own, m.out.bearing(now), now)
	}
	m.Say(votes(verdict.Up, 1, 1))
	if err := errors.Join(w.grant(ctx, own), write()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[error]func() error{
		errTaken: func() error { _, err := client.Put(ctx, w.keys.memberKey(m.name()), "other"); return err },
		errGone:  func() error { _, err := client.Revoke(ctx, w.lease); return err },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		before := keysIn(t, client, w.keys.votesOf(m.name()))
		m.Say(votes(verdict.Up, 2, 200))
		if err := write(); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if after := keysIn(t, client, w.keys.votesOf(m.name())); len(after) != len(before) {
			t.Errorf("%d keys with votes, before %d", len(after), len(before))
		}
		// It takes the key again, with all that it has said.
		w.rev, w.lease = 0, clientv3.NoLease
		err := errors.Join(w.grant(ctx, own), write())
		for !m.out.bearing(time.Now()).since.IsZero() && err == nil {
			err = write()
		}
		if after := keysIn(t, client, w.keys.votesOf(m.name())); err != nil || len(after) < 50 {
			t.Errorf("%v, %d keys with votes", err, len(after))
		}
		m.Say(votes(verdict.Unknown, 2, 200))
		for !m.out.bearing(time.Now()).since.IsZero() && err == nil {
			err = write()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

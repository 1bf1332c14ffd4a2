//go:build unix

package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// allSilent waits until no member counts for any other.
func allSilent(t testing.TB, all ...*testMember) {
	t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a != b {
				eventually(t, a.name()+" takes "+b.name()+" for silent", func() bool { return a.isSilent(b) })
			}
		}
	}
}

// An etcd that is stopped for a short time loses nothing.
func TestShortStop(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	all := startMembers(t, configOf(c), 3)
	c.Servers[0].Stop(t)
	all[0].Say(votes(verdict.Up, 1, 500))
	time.Sleep(3 * time.Second) // which is how long it is stopped
	c.Servers[0].Cont(t)
	complete(t, all...)
	agree(t, all[0], 500, all...)
	for _, m := range all {
		if n := m.count("restarted", ""); n > 0 {
			t.Errorf("%d restarts", n)
		}
	}
}

// While etcd is stopped for longer no member counts for another. All of them come back by themselves, with what was said meanwhile.
func TestLongStop(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	all := startMembers(t, configOf(c), 3)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	began := time.Now()
	c.Servers[0].Stop(t)
	allSilent(t, all...)
	t.Logf("silent after %s", time.Since(began))
	all[0].Say(votes(verdict.Up, 101, 500))
	all[0].Say(votes(verdict.Unknown, 1, 50))
	time.Sleep(10 * time.Second) // so that the leases run out
	c.Servers[0].Cont(t)
	began = time.Now()
	complete(t, all...)
	t.Logf("back after %s", time.Since(began))
	agree(t, all[0], 450, all...)
	for _, m := range all {
		if m.logged("etcd does not answer") != 1 || m.logged("etcd answers again") != 1 || m.logged("") != 2 {
			t.Errorf("log: %s", m.log())
		}
	}
}

// A server that is killed and started again has what it had.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	all := startMembers(t, configOf(c), 3)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	for range 3 {
		c.Servers[0].Restart(t)
		all[0].Say(votes(verdict.Unknown, 1, 50))
		all[0].Say(votes(verdict.Up, 101, 150))
		agree(t, all[0], 100, all...)
		all[0].Say(votes(verdict.Up, 1, 50))
		all[0].Say(votes(verdict.Unknown, 101, 150))
		agree(t, all[0], 100, all...)
		complete(t, all...)
	}
}

// Etcd gives all leases their whole time again when it comes back. A member that has died meanwhile does not count for it: what it has
// found out is old. Those who are back count at once.
func TestDiedMeanwhile(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	all := startMembers(t, configOf(c), 3)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	c.Servers[0].Kill()
	allSilent(t, all...)
	all[0].kill()
	c.Servers[0].Restart(t)
	back := time.Now()
	complete(t, all[1:]...)
	t.Logf("the others are back after %s", time.Since(back))
	for _, m := range all[1:] {
		eventually(t, "it is gone", func() bool {
			m.recorder.mu.Lock()
			defer m.recorder.mu.Unlock()
			return m.there[all[0].name()].what == "left"
		})
		if left := m.events("left", all[0].name()); !left[0].at.After(back) {
			t.Fatal("it was gone before etcd came back, which shows nothing")
		}
		for _, heard := range m.events("heard", all[0].name()) {
			if heard.at.After(back) {
				t.Fatalf("the dead member is heard %s after etcd came back", heard.at.Sub(back))
			}
		}
	}
}

// A member that was away while etcd compacted has what it missed, and what it has not heard is told before it hears the author.
func TestCompacted(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	p := newProxy(t, c.Servers[0].Address)
	config := configOf(c)
	all := startMembers(t, config, 2)
	config.Store.Endpoints = []string{p.address()}
	all = append(all, open(t, config).start(t))
	complete(t, all...)
	all[0].Say(votes(verdict.Up, 1, 300))
	agree(t, all[0], 300, all...)
	p.set(true)
	allSilent(t, all[2], all[0])
	all[0].Say(votes(verdict.Unknown, 1, 100))
	all[0].Say(votes(verdict.Up, 301, 350))
	agree(t, all[0], 250, all[1])
	compact(t, client)
	p.set(false)
	complete(t, all...)
	if n := all[2].ups(all[0].name()); n != 250 {
		t.Errorf("it is heard, and %d votes are known", n)
	}
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 350, all...)
}

// compact has etcd forget all earlier revisions.
func compact(t testing.TB, client *clientv3.Client) {
	t.Helper()
	got, err := client.Get(context.Background(), "any")
	if err == nil {
		_, err = client.Compact(context.Background(), got.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) { // nothing was written since
		t.Fatal(err)
	}
}

// Compacted again and again under load, etcd loses nothing.
func TestCompactedUnderLoad(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	all := startMembers(t, configOf(c), 3)
	const rounds = 50
	for i := range rounds {
		all[0].Say(votes(verdict.Up, i*20+1, i*20+20))
		all[1].Say(votes(verdict.Up, i*20+1, i*20+20))
		compact(t, client)
	}
	agree(t, all[0], rounds*20, all...)
	agree(t, all[1], rounds*20, all...)
	complete(t, all...)
}

// memberKey is the key of a member and its lease.
func memberKey(t testing.TB, client *clientv3.Client, m *testMember) (value string, lease clientv3.LeaseID) {
	t.Helper()
	got, err := client.Get(context.Background(), m.writer.keys.memberKey(m.name()))
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	return string(got.Kvs[0].Value), clientv3.LeaseID(got.Kvs[0].Lease)
}

// A member that has lost its lease is there again soon, with its votes.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	all := startMembers(t, configOf(c), 2)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	_, lease := memberKey(t, client, all[0])
	if _, err := client.Revoke(context.Background(), lease); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has left", func() bool { return all[1].count("left", all[0].name()) == 1 })
	complete(t, all...)
	all[0].Say(votes(verdict.Unknown, 1, 10))
	agree(t, all[0], 90, all...)
	if n := all[1].count("restarted", ""); n > 0 {
		t.Errorf("%d restarts: its votes are still known", n)
	}
}

// A member whose key is deleted or written over by another process is there again. The log says that there is another process.
func TestKeyTaken(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client, ctx := c.Client(t), context.Background()
	all := startMembers(t, configOf(c), 2)
	key := all[0].writer.keys.memberKey(all[0].name())
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	if _, err := client.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has left", func() bool { return all[1].count("left", all[0].name()) == 1 })
	complete(t, all...)
	for range 2 {
		other := fact{epoch: 99, uptime: time.Hour, groups: listOf(testGroups)}
		if _, err := client.Put(ctx, key, string(other.encode())); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its own epoch", func() bool {
			value, _ := memberKey(t, client, all[0])
			f, _ := readFact([]byte(value))
			return f.epoch == all[0].Self().Epoch
		})
	}
	complete(t, all...)
	all[0].Say(votes(verdict.Up, 101, 101))
	eventually(t, "what it says is heard", func() bool { return all[1].state(all[0].name(), target(101)).State == verdict.Up })
	if n := all[0].logged("another process"); n > 1 {
		t.Errorf("%d lines: %s", n, all[0].log())
	}
}

// Votes that another process deletes or changes are written again.
func TestVotesTaken(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client, ctx := c.Client(t), context.Background()
	all := startMembers(t, configOf(c), 2)
	all[0].Say(votes(verdict.Up, 1, 1000))
	agree(t, all[0], 1000, all...)
	prefix := all[0].writer.keys.votesOf(all[0].name())
	before := keysIn(t, client, prefix)
	if _, err := client.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are there again", func() bool { return len(keysIn(t, client, prefix)) == len(before) })
	agree(t, all[0], 1000, all...)
	if _, err := client.Put(ctx, before[0], "garbage"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, prefix+"zz", "garbage"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is put right", func() bool {
		got, err := client.Get(ctx, before[0])
		return err == nil && len(got.Kvs) == 1 && string(got.Kvs[0].Value) != "garbage"
	})
	agree(t, all[0], 1000, all...)
}

// A member that cannot write because etcd is full does not count, and comes back when there is room.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{Args: []string{"--quota-backend-bytes=4194304"}})
	client, ctx := c.Client(t), context.Background()
	all := startMembers(t, configOf(c), 2)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	eventually(t, "etcd is full", func() bool {
		_, err := client.Put(ctx, "filler", strings.Repeat("x", 1<<20))
		return err != nil && strings.Contains(err.Error(), "space")
	})
	// The other has nothing to say, so it stays.
	all[0].Say(votes(verdict.Up, 101, 200))
	eventually(t, "it does not count", func() bool { return all[1].isSilent(all[0]) })
	eventually(t, "a line", func() bool { return all[0].logged("etcd takes nothing from this server") == 1 })
	if !all[0].hears(all[1]) {
		t.Error("the one that has nothing to say is silent")
	}
	got, err := client.Get(ctx, "filler")
	if err == nil {
		_, err = client.Compact(ctx, got.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = client.Defragment(ctx, c.Servers[0].Address)
	}
	if err == nil {
		_, err = client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	}
	if err != nil {
		t.Fatal(err)
	}
	complete(t, all...)
	agree(t, all[0], 200, all...)
	eventually(t, "another line", func() bool { return all[0].logged("etcd takes what this server says again") == 1 })
}

// Authentication is switched on while members run, which have no credentials. With these in the file, they are back. A role that can read
// and write the prefix is enough.
func TestAuth(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client, ctx := c.Client(t), context.Background()
	config := configOf(c)
	config.Store.Credentials = tempFile(t, "stranger:wrong\n")
	all := startMembers(t, config, 2)
	_, err := client.UserAdd(ctx, "fleet", "se:cret")
	if err == nil {
		_, err = client.RoleAdd(ctx, "fleet")
	}
	if err == nil {
		_, err = client.RoleGrantPermission(ctx, "fleet", "/multivalue/", clientv3.GetPrefixRangeEnd("/multivalue/"), clientv3.PermissionType(clientv3.PermReadWrite))
	}
	if err == nil {
		_, err = client.UserGrantRole(ctx, "fleet", "fleet")
	}
	if err != nil {
		t.Fatal(err)
	}
	c.EnableAuth(t, "root")
	all[0].Say(votes(verdict.Up, 1, 100))
	eventually(t, "it does not count", func() bool { return all[1].isSilent(all[0]) })
	write(t, config.Store.Credentials, "fleet:se:cret\n")
	complete(t, all...)
	agree(t, all[0], 100, all...)
	// A new connection, and a server that has forgotten all tokens.
	c.Servers[0].Restart(t)
	all[0].Say(votes(verdict.Up, 101, 200))
	agree(t, all[0], 200, all...)
	complete(t, all...)
	for _, m := range all {
		if strings.Contains(m.log(), "cret") || strings.Contains(m.log(), "wrong") {
			t.Errorf("the log has a password: %s", m.log())
		}
	}
	all[0].leave()
	eventually(t, "it may remove its keys", func() bool { return all[1].count("left", all[0].name()) > 0 })
}

// Etcd is restored from what it was some time ago. Members put right what it has of them, and forget what no member says.
func TestRestored(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	s := c.Servers[0]
	all := startMembers(t, configOf(c), 3)
	all[0].Say(votes(verdict.Up, 1, 100))
	all[2].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	s.Kill()
	saved := s.SaveData(t)
	s.Restart(t)
	complete(t, all...)
	for i := range 20 {
		all[0].Say(votes(verdict.Up, 101+i, 101+i))
		agree(t, all[0], 101+i, all...)
	}
	all[0].Say(votes(verdict.Unknown, 1, 50))
	all[2].leave()
	agree(t, all[0], 70, all[:2]...)
	s.Kill()
	s.LoadData(t, saved)
	s.Restart(t)
	complete(t, all[:2]...)
	all[0].Say(votes(verdict.Up, 200, 200))
	agree(t, all[0], 71, all[:2]...)
	// The one that has left is there again in what was restored, until its lease runs out.
	eventually(t, "it is gone", func() bool { return all[1].isSilent(all[2]) })
	next := open(t, all[0].config).start(t)
	complete(t, next, all[0], all[1])
	for n := 1; n <= 200; n++ {
		next.Ask([]string{all[0].name()}, fleet.Want{Target: target(n)})
	}
	agree(t, all[0], 71, next)
}

// The certificates of both sides are exchanged for those of another authority.
func TestCertificatesExchanged(t *testing.T) {
	t.Parallel()
	one, two := realetcd.NewAuthority(t), realetcd.NewAuthority(t)
	c := realetcd.Start(t, realetcd.Options{TLS: one})
	cert, key := one.Issue(t, "member")
	config := configOf(c)
	config.Store.TLS, config.Store.Cert, config.Store.Key, config.Store.CA = true, cert, key, copied(t, one.CA)
	all := startMembers(t, config, 2)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	c.Servers[0].Kill()
	c.Exchange(t, two)
	allSilent(t, all...)
	newCert, newKey := two.Issue(t, "member")
	for to, from := range map[string]string{cert: newCert, key: newKey, config.Store.CA: two.CA} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, string(text))
	}
	complete(t, all...)
	all[0].Say(votes(verdict.Up, 101, 110))
	agree(t, all[0], 110, all...)
}

func copied(t testing.TB, path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return tempFile(t, string(text))
}

// One server of three that is alone is worth nothing. With two, all is well.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{Servers: 3})
	all := startMembers(t, configOf(c), 3)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	c.Servers[0].Kill()
	all[0].Say(votes(verdict.Up, 101, 200))
	agree(t, all[0], 200, all...)
	complete(t, all...)
	began := time.Now()
	c.Servers[1].Stop(t)
	allSilent(t, all...)
	t.Logf("silent after %s", time.Since(began))
	all[0].Say(votes(verdict.Up, 201, 300))
	c.Servers[1].Cont(t)
	complete(t, all...)
	agree(t, all[0], 300, all...)
	c.Servers[0].Restart(t)
	c.Wait(t)
	// A server that hangs alone: those who use it take another one.
	c.Servers[2].Stop(t)
	all[0].Say(votes(verdict.Up, 301, 400))
	agree(t, all[0], 400, all...)
	complete(t, all...)
}

// An etcd that takes five seconds for everything is of no use, and is used again when it is quick.
func TestSlow(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	p := newProxy(t, c.Servers[0].Address)
	config := configOf(c)
	config.Store.Endpoints = []string{p.address()}
	all := startMembers(t, config, 2)
	p.delay.Store(int64(5 * time.Second))
	all[0].Say(votes(verdict.Up, 1, 100))
	allSilent(t, all...)
	p.delay.Store(0)
	complete(t, all...)
	agree(t, all[0], 100, all...)
	// One that answers nothing, on connections that hold.
	p.held.Store(true)
	allSilent(t, all...)
	p.held.Store(false)
	complete(t, all...)
}

// The addresses of an etcd change: by an update, and by what a name stands for.
func TestAddressesChange(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	p := newProxy(t, c.Servers[0].Address)
	config := configOf(c)
	config.Store.Endpoints = []string{p.address()}
	all := startMembers(t, config, 2)
	p.set(true)
	config.Store.Endpoints = c.Endpoints()
	for _, m := range all {
		if err := m.Check(config); err != nil {
			t.Fatal(err)
		}
		if err := m.Update(config); err != nil {
			t.Fatal(err)
		}
	}
	complete(t, all...)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all...)
	config.Store.Credentials = "absent"
	if err := all[0].Update(config); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a file that does not exist: %v", err)
	}
	if _, err := Open(config, membership.Host{}); err == nil {
		t.Error("it opens")
	}
}

// Votes of a member that has no key for long are removed.
func TestGarbage(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client, ctx := c.Client(t), context.Background()
	m := open(t, configOf(c))
	m.loop.garbage = time.Second
	keys := m.writer.keys
	for i := range 300 {
		if _, err := client.Put(ctx, keys.part(fmt.Sprint("dead-", i%2), uint8(i)), "garbage"); err != nil {
			t.Fatal(err)
		}
	}
	other := open(t, configOf(c)).start(t) // which has more patience
	m.start(t)
	complete(t, m, other)
	m.Say(votes(verdict.Up, 1, 10))
	other.Say(votes(verdict.Up, 1, 10))
	eventually(t, "it is removed", func() bool {
		return len(keysIn(t, client, keys.votesOf("dead-0"))) == 0 && len(keysIn(t, client, keys.votesOf("dead-1"))) == 0
	})
	agree(t, m, 10, other)
	agree(t, other, 10, m)
	if n := len(keysIn(t, client, keys.base+"votes/")); n == 0 {
		t.Error("the votes of those that are there are removed, too")
	}
}

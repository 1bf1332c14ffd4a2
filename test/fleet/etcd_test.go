//go:build linux

package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// lease is how long a member that has died is still in etcd, and with it those that etcd leaves alone.
const lease = 6 * time.Second

// peersBlock is where the block of a fleet begins whose members talk to each other.
const peersBlock = "fleet PEERS {\n            key KEY\n            listen 127.8.0.NUMBER:FLEET\n"

// toEtcd are edits for a fleet over an etcd.
func toEtcd(endpoints ...string) []string {
	return []string{peersBlock, "fleet etcd://" + strings.Join(endpoints, ",") + " {\n"}
}

// overEtcd is fleetOf over an etcd of one server.
func overEtcd(t testing.TB, members int, backends ...int) (*scene, *realetcd.Cluster) {
	t.Helper()
	c := realetcd.Start(t, realetcd.Options{})
	return overThis(t, c, members, backends), c
}

func overThis(t testing.TB, c *realetcd.Cluster, members int, backends []int, edits ...string) *scene {
	t.Helper()
	s := newScene(t, backends...)
	s.usual = append(toEtcd(c.Endpoints()...), edits...)
	for n := 1; n <= members; n++ {
		s.launch(n)
	}
	s.settle()
	s.shared(patience, min(members, 3))
	return s
}

// Five servers that meet in an etcd probe each target three times an interval. One that dies is out of all answers, a newcomer believes
// what the others know, and what a server probed that dies is probed by others when its lease ends (B104, B105, B106, B112).
func TestEtcdFiveProbeLikeThree(t *testing.T) {
	t.Parallel()
	s, _ := overEtcd(t, 5, 11, 12, 13, 14, 15, 16, 17, 18)
	l := s.load()
	s.undisturbed(func() string { return s.probeThrice(8 * interval) })
	l.expects([]int{11, 12, 13, 15, 16, 17, 18}, nil)
	s.backends[14].turn(stalls) // alone, a server takes three timeouts to find that
	t.Logf("a dead target is out of all answers within %s", s.serves(bound+slack, 11, 12, 13, 15, 16, 17, 18))
	l.expects([]int{11, 12, 13, 15, 16, 17, 18}, []int{14})
	for _, p := range s.live() {
		p.says(fmt.Sprintf("127.9.0.14:%d is down: 3 of 3 vantage points of http://:%d/ ", s.backendPort, s.backendPort), 1)
	}
	knew := false
	for n := 6; n <= 8 && !knew; n++ {
		knew = s.newcomerKnows(n, []int{11, 12, 13, 15, 16, 17, 18})
	}
	if !knew {
		t.Error("no newcomer has answered by what the others know")
	}
	from := time.Now()
	s.kill(s.servingMost())
	t.Logf("a death is made up for within %s", s.shared(lease+reseated+slack, 3))
	if r := s.rates(from, time.Now()); r.longest > 2*interval+slack/4 {
		t.Errorf("%s, and never none", r)
	}
}

// When etcd is gone, each server probes for itself as soon as no vote counts, and answers all the time. One that starts meanwhile waits
// for nothing. When etcd is back, they are one fleet again, by themselves (B107, B108, B112).
func TestEtcdGoes(t *testing.T) {
	t.Parallel()
	s, c := overEtcd(t, 5, 11, 12, 13, 14, 15, 16, 17, 18)
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13, 15, 16, 17, 18)
	l := s.load()
	l.expects([]int{11, 12, 15, 16, 17, 18}, []int{14})
	c.Servers[0].Kill()
	gone := time.Now()
	t.Logf("each probes for itself within %s", s.shared(lapse+lease+slack, 5))
	if took := time.Since(gone) - window; took > lapse+lease+slack/2 {
		t.Errorf("each probes for itself after %s, and %s is promised", took, lapse+lease)
	}
	s.backends[13].turn(stalls)
	s.serves(bound+slack, 11, 12, 15, 16, 17, 18)
	l.expects([]int{11, 12, 15, 16, 17, 18}, []int{13, 14})
	late := s.launch(6)
	late.await()
	if took := time.Since(late.began) - s.halts.stalled(late.began, time.Now()); took > 2*slack {
		t.Errorf("a server that starts without etcd answers after %s", took)
	}
	late.eventually(bound+lapse+slack, func() bool { return late.has(11, 12, 15, 16, 17, 18) }, func() string { return "the one that has started does not probe" })
	for _, p := range s.live() {
		if n := p.peers(); n != 0 {
			t.Errorf("server %d hears %d members without etcd", p.n, n)
		}
	}
	if r := s.rates(gone, time.Now()); r.longest > lapse+slack/2 {
		t.Errorf("%s, want some as soon as no vote counts", r)
	}
	c.Servers[0].Restart(t)
	t.Logf("one fleet again after %s", s.joined(patience))
	t.Logf("three probe again after %s", s.shared(2*settling+patience, 3))
	s.serves(slack, 11, 12, 15, 16, 17, 18)
}

// A fleet changes from gossip to etcd by a reload of each server, one after the other, and no target is ever left alone. A server whose
// fleet is removed probes for itself (B110, B112).
func TestEtcdReloads(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	s := fleetOf(t, 4, []int{11, 12, 13, 14})
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13)
	l := s.load()
	l.expects([]int{11, 12, 13}, []int{14})
	from := time.Now()
	for n := 1; n <= 4; n++ {
		p := s.servers[n]
		p.reload(toEtcd(c.Endpoints()...)...)
		p.hears(patience, n-1)
		s.passes(interval)
	}
	s.joined(patience)
	s.shared(settling+patience, 3)
	r := s.rates(from, time.Now())
	t.Log(r)
	if r.crowded(5) || r.longest > 2*interval+slack/4 { // all of them, for a while
		t.Errorf("%s, want at most 4, and never none", r)
	}
	p := s.servers[4]
	p.reload(s.expandFleetAway()...)
	for _, o := range s.live() {
		want := 2
		if o == p {
			want = 0
		}
		o.hears(patience, want)
	}
	s.probedBy(reseated+slack, "3 that share, and 4 for itself", func(_ int, who []int) bool { return len(who) == 4 })
}

// Servers and the three of etcd are started again, one after the other, and no target is ever left alone (B88, B110, B112).
func TestEtcdRollingRestart(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{Servers: 3})
	s := overThis(t, c, 4, []int{11, 12, 13, 14}, "MORE", "state DIR/stateNUMBER")
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13)
	l := s.load()
	l.expects([]int{11, 12, 13}, []int{14})
	from := time.Now()
	for n := 1; n <= 4; n++ {
		p := s.servers[n]
		began := time.Now()
		if took := p.stop() - s.halts.stalled(began, time.Now()); took > 2*time.Second+slack/4 {
			t.Errorf("server %d ends within %s", n, took)
		}
		s.live()[0].isLeft(2) // its lease ends later
		if n <= len(c.Servers) {
			c.Servers[n-1].Restart(t)
			c.Wait(t)
		}
		p.run()
		p.await()
		l.join(p)
		s.joined(patience)
		s.passes(interval)
	}
	r := s.rates(from, time.Now())
	t.Log(r)
	if r.crowded(4) || r.longest > 2*interval+slack/4 {
		t.Errorf("%s, want at most 4, and never none", r)
	}
}

// A user whose role can read and write one prefix is enough, over TLS with certificates of clients, as docs/fleet.md sets it up. A
// server with another password answers, is alone, and says why, without the password (B112).
func TestEtcdRights(t *testing.T) {
	t.Parallel()
	authority := realetcd.NewAuthority(t)
	c := realetcd.Start(t, realetcd.Options{TLS: authority})
	client, ctx := c.Client(t), context.Background()
	const prefix = "/multivalue/"
	_, errRole := client.RoleAdd(ctx, "fleet")
	_, errGrant := client.RoleGrantPermission(ctx, "fleet", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
	_, errUser := client.UserAdd(ctx, "coredns", "s3cret:word")
	_, errUserRole := client.UserGrantRole(ctx, "coredns", "fleet")
	if err := errors.Join(errRole, errGrant, errUser, errUserRole); err != nil {
		t.Fatal(err)
	}
	c.EnableAuth(t, "of root")
	s := newScene(t, 11, 12)
	cert, key := authority.Issue(t, "member")
	s.usual = append(toEtcd(c.Endpoints()...), "INNER", fmt.Sprintf("tls %s %s %s\n credentials DIR/userNUMBER", cert, key, authority.CA))
	for n := 1; n <= 4; n++ {
		s.file(fmt.Sprint("user", n), "coredns:s3cret:word\n")
	}
	s.file("user4", "coredns:hush-hush\n")
	for n := 1; n <= 4; n++ {
		s.launch(n).await()
	}
	for n := 1; n <= 3; n++ {
		s.servers[n].hears(patience, 2)
	}
	wrong := s.servers[4]
	wrong.eventually(patience, func() bool { return wrong.has(11, 12) && wrong.peers() == 0 }, func() string { return "a server with a wrong password does not answer" })
	wrong.says("invalid user ID or password", 1)
	s.file("user4", "coredns:s3cret:word\n")
	s.joined(patience)
	wrong.says("etcd answers again", 1)
	for _, p := range s.live() {
		for _, secret := range []string{"s3cret", "hush"} {
			if strings.Contains(p.output.String(), secret) {
				t.Errorf("server %d has a password in its log", p.n)
			}
		}
	}
}

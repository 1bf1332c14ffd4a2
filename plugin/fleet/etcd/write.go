package etcd

import (
	"bytes"
	"context"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	// leaseTime is for how long after its last sign a member is there, in seconds, unless etcd grants another time. signEvery is how often
	// it gives one.
	leaseTime = 6
	signEvery = 2 * time.Second
	// maxOps and maxWrite bound one write, in operations and bytes. Etcd takes 128 and 1.5 MiB.
	maxOps   = 100
	maxWrite = 512 << 10
	// leaveTime is how long Leave takes at most.
	leaveTime = 500 * time.Millisecond
)

// timed gives a request its time, counts it, and notes how long it took.
func (w *writer) timed(ctx context.Context, kind string, ask func(ctx context.Context) (*pb.ResponseHeader, error)) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), requestTime)
	defer cancel()
	began := time.Now()
	header, err := ask(ctx)
	count(kind, err)
	if err != nil {
		return err
	}
	w.trip.Store(int64(time.Since(began)))
	w.term.Store(header.GetRaftTerm())
	w.latest.Store(header.GetRevision())
	return nil
}

// grant asks for a lease.
func (w *writer) grant(ctx context.Context, c *client) error {
	return w.timed(ctx, "lease", func(ctx context.Context) (*pb.ResponseHeader, error) {
		began := time.Now()
		resp, err := c.Grant(ctx, leaseTime)
		if err != nil {
			return nil, err
		}
		// Etcd may grant a longer time than was asked for: then a sign is due less often.
		w.lease = resp.ID
		w.granted.Store(int64(time.Duration(resp.TTL) * time.Second))
		w.signs.every = min(signEvery, max(time.Second, time.Duration(resp.TTL)*time.Second/3))
		w.signs.next = began.Add(w.signs.every)
		return resp.ResponseHeader, nil
	})
}

// giveUp gives the lease back, so that the others know at once that this process is not there.
func (w *writer) giveUp(ctx context.Context, c *client) {
	lease := w.lease
	w.lease, w.rev = 0, 0
	w.signs.endStream()
	w.timed(ctx, "lease", func(ctx context.Context) (*pb.ResponseHeader, error) { // if it fails, the lease runs out
		resp, err := c.Revoke(ctx, lease)
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	})
}

// signs keep a lease. They go over one stream: with authentication, each new one costs etcd the check of a password.
type signs struct {
	every  time.Duration
	next   time.Time // when one is due
	of     *client
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

func (s *signs) due(now time.Time) bool { return !now.Before(s.next) }

// endStream ends the stream.
func (s *signs) endStream() {
	if s.cancel != nil {
		s.cancel()
	}
	s.of, s.stream, s.cancel = nil, nil, nil
}

// give gives one sign, and returns for how long the lease holds.
func (s *signs) give(ctx context.Context, c *client, lease clientv3.LeaseID) (*pb.LeaseKeepAliveResponse, error) {
	if s.of != c {
		s.endStream()
	}
	if s.stream == nil {
		own, cancel := context.WithCancel(clientv3.WithRequireLeader(c.Ctx()))
		s.of, s.cancel = c, cancel
		timer := time.AfterFunc(requestTime, cancel)
		stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(own, grpc.WaitForReady(true))
		if !timer.Stop() || err != nil {
			s.endStream()
			return nil, orLate(ctx, err)
		}
		s.stream = stream
	}
	// The stream outlives this request, and ends if no answer comes in the time of it: a late one would be taken for the next one.
	stopped := context.AfterFunc(ctx, s.cancel)
	defer stopped()
	err := s.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
	if err == nil {
		var resp *pb.LeaseKeepAliveResponse
		if resp, err = s.stream.Recv(); err == nil {
			return resp, nil
		}
	}
	s.endStream()
	return nil, orLate(ctx, err)
}

// orLate is an error, or that the time is over.
func orLate(ctx context.Context, err error) error {
	if ctx.Err() != nil || err == nil {
		return context.DeadlineExceeded
	}
	return err
}

// keepAlive gives a sign that this process is there.
func (w *writer) keepAlive(ctx context.Context, c *client) error {
	began := time.Now()
	return w.timed(ctx, "lease", func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := w.signs.give(ctx, c, w.lease)
		switch {
		case err != nil:
			return nil, err
		case resp.TTL <= 0:
			return nil, errNoLease
		}
		w.signs.next = began.Add(w.signs.every)
		return resp.Header, nil
	})
}

// ownWrite is a write that is being made.
type ownWrite struct {
	ops   []clientv3.Op
	bytes int
	next  map[uint8]ownPart // what the parts become
	taken map[uint8]map[fleet.Target]pendingVote
	full  bool // not all had room
}

func (x *ownWrite) store(key string, value []byte, options ...clientv3.OpOption) {
	x.ops = append(x.ops, clientv3.OpPut(key, string(value), options...))
	x.bytes += len(key) + len(value)
}

// gather takes what is to be written, as much as one write takes.
func (w *writer) gather(now time.Time) *ownWrite {
	x := &ownWrite{next: make(map[uint8]ownPart), taken: make(map[uint8]map[fleet.Target]pendingVote)}
	repair := w.isDue(now) || w.rev == 0 || w.written.behind
	first := w.first // those that had no room come first the next time
	for i := range w.parts {
		number := first + uint8(i)
		p := &w.parts[number]
		force := p.force
		if len(x.ops) >= maxOps-2 || x.bytes > maxWrite/2 {
			x.full, w.first = true, number
			break
		}
		said := w.out.takeSaid(number)
		// What another process has changed is put right with the next vote that is said in any case.
		if len(said) == 0 && !(force && repair) {
			continue
		}
		next, again := p.revise(number, said, now, w.out.noteFor)
		if !again {
			continue
		}
		if force {
			w.repairAt = now.Add(repairEvery)
		}
		x.next[number], x.taken[number] = next, said
		if key := w.keys.part(w.self.Name, number); len(next.raw) > 0 {
			x.store(key, next.raw)
		} else {
			x.ops = append(x.ops, clientv3.OpDelete(key))
			x.bytes += len(key)
		}
	}
	return x
}

// fact is what the own key is to say.
func (w *writer) fact(b bearing, now time.Time, full bool) fact {
	f := fact{epoch: w.self.Epoch, isolated: b.isolated, behind: !b.turns, uptime: now.Sub(w.started), site: w.self.Site, version: w.version, groups: b.groups, term: w.term.Load()}
	// What made its votes void ends when all of them are written.
	if full {
		f.isolated = f.isolated || w.written.isolated
		f.behind = f.behind || w.written.behind || w.rev == 0 || !b.since.IsZero() && now.Sub(b.since) > lateTime
		f.term = w.written.term
	}
	return f
}

// says reports whether the own key says so already.
func (w *writer) says(f fact) bool {
	is := w.written
	// The uptime in the key is that of its writing. It is written again once, so that those who come later know who is no newcomer.
	settled := is.uptime < w.settling && f.uptime >= w.settling
	is.uptime = f.uptime
	return w.rev != 0 && is == f && !settled
}

// write writes what is to be written. It writes nothing if the own key is not what this process has written: then others may have taken
// it for gone.
func (w *writer) write(ctx context.Context, c *client, b bearing, now time.Time) error {
	x := w.gather(now)
	if value := w.out.takeNotes(); value != nil && w.rev != 0 {
		x.store(w.keys.wants(w.self.Name), value, clientv3.WithLease(w.lease))
	}
	return w.commit(ctx, c, x, b, now)
}

// admit writes the own key alone, while the votes wait for their turn: that they are late, or that the probes are in doubt.
func (w *writer) admit(ctx context.Context, c *client, b bearing, now time.Time) error {
	return w.commit(ctx, c, &ownWrite{full: true}, b, now)
}

// mustAdmit reports whether the own key has to say something before the votes may be written.
func (w *writer) mustAdmit(b bearing, now time.Time) bool {
	f := w.fact(b, now, true)
	return w.rev != 0 && (f.behind != w.written.behind || f.isolated != w.written.isolated)
}

// commit makes a write.
func (w *writer) commit(ctx context.Context, c *client, x *ownWrite, b bearing, now time.Time) error {
	own := w.keys.memberKey(w.self.Name)
	f := w.fact(b, now, x.full)
	saysSo := w.says(f) && (!w.restate || x.full)
	if !saysSo { // after the votes: they count from then on
		w.tried = f.encode()
		x.store(own, w.tried, clientv3.WithLease(w.lease))
	}
	if len(x.ops) == 0 {
		w.out.settle(now)
		return nil
	}
	var compare []clientv3.Cmp
	// The first write of all, and the one after the key was lost, take the key whatever it is.
	if w.rev != 0 {
		compare = append(compare, clientv3.Compare(clientv3.ModRevision(own), "=", w.rev))
	}
	var resp *clientv3.TxnResponse
	err := w.timed(ctx, "write", func(ctx context.Context) (*pb.ResponseHeader, error) {
		var err error
		resp, err = c.Txn(ctx).If(compare...).Then(x.ops...).Else(clientv3.OpGet(own)).Commit()
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	})
	if w.failing = err != nil; err == nil && !resp.Succeeded {
		err = w.judgeKey(resp.Responses[0].GetResponseRange().Kvs)
	}
	// Etcd may have made the write although no answer came. It is made again, which changes nothing for the readers.
	if err != nil {
		for number, said := range x.taken {
			w.out.putBack(number, said)
		}
		return err
	}
	countWritten(x.bytes)
	if len(x.next) > 0 || !x.full {
		w.pace.wrote(now, x.bytes, int(w.members.Load()))
	}
	w.wrote(x, resp.Header.Revision)
	if !saysSo {
		w.rev, w.written = resp.Header.Revision, f
		w.restate = w.restate && x.full
	}
	if !x.full {
		w.out.settle(now)
	}
	return nil
}

// judgeKey says what has become of the own key, which is not at the revision that this process knows.
func (w *writer) judgeKey(kvs []*mvccpb.KeyValue) error {
	switch {
	case len(kvs) == 0:
		return errGone
	case bytes.Equal(kvs[0].Value, w.tried) && kvs[0].Lease == int64(w.lease): // an earlier write of this process whose answer was lost
		w.rev = kvs[0].ModRevision
		return errUnheard
	}
	return errTaken
}

// wrote notes a write, and that etcd takes what is said.
func (w *writer) wrote(x *ownWrite, rev int64) {
	for number, next := range x.next {
		next.rev = rev
		w.parts[number] = next
	}
	if w.warned {
		w.warned = false
		w.host.Infof("fleet: etcd takes what this server says again")
	}
}

// removeGarbage removes the votes of a member that has no key for long.
func (w *writer) removeGarbage(ctx context.Context, c *client) error {
	id := w.out.takeGarbage()
	if id == "" {
		return nil
	}
	// It may have come back meanwhile, and another member may have removed them already.
	return w.timed(ctx, "write", func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(w.keys.memberKey(id)), "=", 0)).
			Then(clientv3.OpDelete(w.keys.votesOf(id), clientv3.WithPrefix())).Commit()
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	})
}

// goodbye removes what this process has written, and gives its lease back.
func (w *writer) goodbye(ctx context.Context) {
	c := w.link.current()
	if c == nil || w.lease == 0 {
		return
	}
	// The keys go with one write, so the others see all of it at once. It is not made if the key is another one's.
	ctx, cancel := context.WithTimeout(ctx, leaveTime*3/4)
	defer cancel()
	id := w.self.Name
	w.timed(ctx, "write", func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(w.keys.memberKey(id)), "=", w.rev)).Then(clientv3.OpDelete(w.keys.memberKey(id)),
			clientv3.OpDelete(w.keys.wants(id)), clientv3.OpDelete(w.keys.votesOf(id), clientv3.WithPrefix())).Commit()
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	})
	w.giveUp(ctx, c)
}

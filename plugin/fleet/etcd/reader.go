package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const (
	// pageKeys is how many keys of a snapshot come in one answer, at first.
	pageKeys = 256
	// progressEvery is how often etcd is asked how far the watch is.
	progressEvery = time.Second
	// retryFirst and retryMost bound the time between two attempts.
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	// wellTime is how long a connection has to hold for the next failure to be the first one again.
	wellTime = 10 * time.Second
)

var (
	errCompacted = errors.New("etcd has compacted what was missed")
	errDiverged  = errors.New("etcd has another history: it was restored")
)

// news is what the reader tells the loop.
type news struct {
	kind   newsKind
	keys   []*mvccpb.KeyValue // of a page
	events []*mvccpb.Event
	rev    int64 // of etcd
	term   uint64
}

type newsKind byte

const (
	newsSnapshot newsKind = iota // a snapshot begins: what it does not have is not there
	newsPage
	newsWhole  // the snapshot is complete
	newsEvents // all up to the revision, if it is not 0
	newsReach  // nothing is missing up to the revision
)

// mark is the last change that has been heard. A watch that is taken up again begins with it, so that it is seen whether etcd still has
// the same history.
type mark struct {
	key string
	rev int64
	sum [sha256.Size]byte // of the value; of nothing for a key that was deleted
}

// reader follows the keys of the fleet. It is one goroutine, with another one that asks for progress.
type reader struct {
	link *link
	keys keySpace
	feed chan news
	// reread is set when all has to be read again.
	reread *atomic.Bool
	last   mark  // rev is 0 if all has to be read
	limit  int64 // of keys in one answer of a snapshot; 0 for pageKeys
}

// keepReading connects, and follows the keys, for ever.
func (r *reader) keepReading(ctx context.Context) {
	retry := backoff{first: retryFirst, most: retryMost}
	for ctx.Err() == nil {
		began := time.Now()
		r.attempt(ctx)
		if time.Since(began) > wellTime {
			retry.worked()
		}
		timer := time.NewTimer(retry.failed())
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.link.changed:
			retry.worked()
		}
		timer.Stop()
	}
}

// attempt follows the keys as long as that goes well.
func (r *reader) attempt(ctx context.Context) {
	defer rescue.Log("reading from the fleet's etcd")
	ctx, c, err := r.link.connect(ctx)
	if err != nil {
		return
	}
	defer r.link.disconnect(c)
	if r.reread.Swap(false) {
		r.last = mark{}
	}
	// What etcd no longer has is read as a whole, over the same connection. Anything else takes another one.
	for err == nil || errors.Is(err, errCompacted) || errors.Is(err, errDiverged) {
		from := r.last.rev
		if from == 0 {
			if from, err = r.snapshot(ctx, c); err != nil {
				break
			}
			from++
		}
		err = r.watch(ctx, c, from)
		if errors.Is(err, errCompacted) || errors.Is(err, errDiverged) {
			r.last = mark{}
		}
	}
	if ctx.Err() == nil {
		r.link.failed(err)
	}
}

// hand gives news to the loop. It reports false if the context ends first.
func (r *reader) hand(ctx context.Context, n news) bool {
	select {
	case r.feed <- n:
		return true
	case <-ctx.Done():
		return false
	}
}

// snapshot reads all keys as of one revision, and returns that.
func (r *reader) snapshot(ctx context.Context, c *client) (rev int64, err error) {
	// The first page is of the latest revision that a majority has, also from a server that lags; the others are of the same one.
	from := r.keys.base
	if r.limit == 0 {
		r.limit = pageKeys
	}
	r.last = mark{}
	var last mark
	if !r.hand(ctx, news{kind: newsSnapshot}) {
		return 0, ctx.Err()
	}
	for {
		one, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), requestTime)
		page, err := c.Get(one, from, clientv3.WithRange(r.keys.rangeEnd()), clientv3.WithLimit(r.limit), clientv3.WithRev(rev))
		cancel()
		count("read", err)
		if code := codeOf(err); (code == codes.ResourceExhausted || code == codes.DeadlineExceeded) && r.limit > 1 && ctx.Err() == nil {
			r.limit /= 4 // the answer is too long, also for the next attempt
			continue
		}
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = page.Header.Revision
		}
		countRead(proto.Size((*pb.RangeResponse)(page)))
		for _, kv := range page.Kvs {
			if kv.ModRevision > last.rev {
				last = mark{string(kv.Key), kv.ModRevision, sha256.Sum256(kv.Value)}
			}
		}
		if !r.hand(ctx, news{kind: newsPage, keys: page.Kvs, term: page.Header.RaftTerm}) {
			return 0, ctx.Err()
		}
		if !page.More || len(page.Kvs) == 0 {
			r.last, r.limit = last, 0
			r.hand(ctx, news{kind: newsWhole, rev: rev})
			return rev, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// watch follows the keys from a revision on. If that is the one of the last change that was heard, it has to come first.
func (r *reader) watch(ctx context.Context, c *client, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(clientv3.WithRequireLeader(ctx), grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxMessage))
	count("watch", err)
	if err != nil {
		cancel()
		return err
	}
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	// The stream is used as it is. The watcher of etcd's client would take it up again by itself, keep without bound what is not taken
	// from it, and not notice that etcd was restored.
	create := &pb.WatchCreateRequest{Key: []byte(r.keys.base), RangeEnd: []byte(r.keys.rangeEnd()), StartRevision: from, Fragment: true}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	if err != nil {
		close(ended)
		return err
	}
	go func() { defer close(ended); defer rescue.Log("asking the fleet's etcd"); askForProgress(ctx, stream) }()
	proved, answered := from != r.last.rev, false
	for {
		resp, err := stream.Recv()
		switch {
		case err != nil && answered && !proved: // it may be waiting for a revision that etcd had before it was restored
			r.last = mark{}
			return err
		case err != nil:
			return err
		case resp.CompactRevision > 0:
			return errCompacted
		case resp.Canceled:
			return fmt.Errorf("etcd has ended the watch: %s", resp.CancelReason)
		}
		countRead(proto.Size(resp))
		// The last change that was heard comes first, or etcd says that it is beyond that one: then it was never made.
		if !proved && (len(resp.Events) > 0 || !resp.Created && resp.Header.Revision >= from) {
			isLast := func(e *mvccpb.Event) bool { return markOf(e) == r.last }
			if proved = slices.ContainsFunc(resp.Events, isLast); !proved {
				return errDiverged
			}
		}
		answered = true
		if resp.Created || !proved {
			continue
		}
		if err := r.pass(ctx, resp); err != nil {
			return err
		}
	}
}

// markOf is a change as a mark.
func markOf(e *mvccpb.Event) mark {
	m := mark{key: string(e.Kv.Key), rev: e.Kv.ModRevision}
	if e.Type == mvccpb.Event_PUT {
		m.sum = sha256.Sum256(e.Kv.Value)
	}
	return m
}

// pass gives an answer of the watch to the loop.
func (r *reader) pass(ctx context.Context, resp *pb.WatchResponse) error {
	n := news{kind: newsReach, rev: resp.Header.Revision, term: resp.Header.RaftTerm}
	if len(resp.Events) > 0 {
		// A part of a revision says nothing of how far the watch is.
		n = news{kind: newsEvents, events: resp.Events, term: resp.Header.RaftTerm}
		// Of several changes in one revision, it is the first one that comes first.
		for _, e := range resp.Events {
			if e.Kv.ModRevision > r.last.rev {
				r.last = markOf(e)
			}
		}
		if !resp.Fragment {
			n.rev = resp.Events[len(resp.Events)-1].Kv.ModRevision
		}
	}
	if !r.hand(ctx, n) {
		return ctx.Err()
	}
	return nil
}

// askForProgress asks how far the watch is, until the context ends.
func askForProgress(ctx context.Context, stream pb.Watch_WatchClient) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		if err != nil {
			return // the other side of the stream says why
		}
		count("progress", nil)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

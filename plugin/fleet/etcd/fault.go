package etcd

import (
	"context"
	"errors"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codeOf is the code of an error of a client.
func codeOf(err error) codes.Code {
	var e rpctypes.EtcdError
	switch {
	case errors.As(err, &e):
		return e.Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return status.Code(err)
}

// isRefusal reports whether etcd has answered, and will not do it: for want of rights, of space, or of sense.
func isRefusal(err error) bool {
	switch codeOf(err) {
	case codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.ResourceExhausted, codes.FailedPrecondition, codes.NotFound, codes.OutOfRange:
		return true
	}
	return false
}

// faultText is an error for people.
func faultText(err error) string {
	if codeOf(err) == codes.DeadlineExceeded {
		if errors.Is(err, context.DeadlineExceeded) {
			return "no answer within " + requestTime.String()
		}
	}
	return printable(rpctypes.ErrorDesc(err))
}

// count counts a request.
func count(kind string, err error) {
	// A refusal is an answer: etcd is there, and something is to be done about it.
	outcome := "ok"
	switch {
	case err == nil:
	case isRefusal(err):
		outcome = "refused"
	default:
		outcome = "failed"
	}
	metrics.Fleet.Requests.WithLabelValues(kind, outcome).Inc()
}

// countWritten and countRead count bytes of keys, values and messages.
func countWritten(n int) { metrics.Fleet.StoreBytes.WithLabelValues("written").Add(float64(n)) }
func countRead(n int)    { metrics.Fleet.StoreBytes.WithLabelValues("read").Add(float64(n)) }

// errNoLease is for a lease that has run out.
var errNoLease = rpctypes.ErrLeaseNotFound

// isGone reports whether etcd does not know a lease.
func isGone(err error) bool {
	return errors.Is(err, errNoLease) || rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound)
}

// client is what of etcd's client is used, so that its name stays in few files.
type client = clientv3.Client

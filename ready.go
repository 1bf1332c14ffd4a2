package multivalue

// Ready reports whether the pool runs. It never turns on the health of the backends: a CoreDNS that knows of nothing but
// dead ones is the very one whose answers are needed.
func (m Multivalue) Ready() bool { return thePool.running.Load() }

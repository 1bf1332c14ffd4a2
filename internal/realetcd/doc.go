// Package realetcd starts the real etcd for tests: one server or several that are one cluster.
//
// The program is that of the module in test/kube, which is built once for each version, and kept where the scripts there keep
// it. Its servers listen on loopback, and keep their data in a directory of the test. A test stops, kills and restarts them.
package realetcd

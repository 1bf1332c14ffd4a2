// Package signals tells tests when a CoreDNS that they have started is ready for signals.
//
// CoreDNS asks for its signals in two goroutines that it does not wait for. A signal that comes before that is lost, or ends
// the program at once in place of stopping it. On a busy machine this can be after the program has begun to answer queries.
package signals

import "os/exec"

// Command is exec.Command for a program that Trapped is to be asked of. The program starts with SIGINT ignored, since it
// shows from outside only then that Go's signal.Notify was called for SIGINT.
func Command(name string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `trap "" INT; exec "$@"`, "sh", name}, args...)...)
}

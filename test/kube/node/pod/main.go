// Command pod runs in the Pods of these tests. Without an argument it waits for its end, as the pause container of a
// Pod must. With "serve" it listens on port 8080, and is both a backend with a health page and a client of the
// cluster's DNS: it looks names up by its own resolv.conf and reports the result.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		<-ended
		return
	}
	var l load
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/lookup", lookup)
	http.HandleFunc("/load", l.begin)
	http.HandleFunc("/loaded", l.report)
	http.HandleFunc("/resolv.conf", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "/etc/resolv.conf") })
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// lookup writes the addresses of a name, or why there are none.
func lookup(w http.ResponseWriter, r *http.Request) {
	resolver := net.Resolver{PreferGo: true}
	addresses, err := resolver.LookupHost(r.Context(), r.FormValue("name"))
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	slices.Sort(addresses)
	fmt.Fprintln(w, strings.Join(addresses, " "))
}

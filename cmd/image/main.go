// Command image packs CoreDNS into a container image. It needs neither Docker nor a base image:
//
//	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' ./cmd/coredns
//	go run ./cmd/image -name registry.example.org/coredns-multivalue:0.1.0 -o image.tar coredns
//
// The image has the program, the certificates of public authorities, and nothing else. It runs as a user without rights,
// and the program has the capability to listen on port 53. The same program makes the same image, byte for byte.
//
// The archive is an OCI layout and also has the index of "docker save". So docker load, podman load, ctr images import
// and skopeo copy oci-archive: all accept it.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run writes the archive that the command line asks for.
func run(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	var i image
	flags.StringVar(&i.name, "name", "coredns-multivalue:latest", "name of the image, with a tag")
	flags.StringVar(&i.authorities, "ca", "/etc/ssl/certs/ca-certificates.crt", "file of the certificates to trust; none if empty")
	flags.BoolVar(&i.ports, "ports", true, "let the program listen on ports below 1024")
	out := flags.String("o", "image.tar", "file to write the archive to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%d programs given: name exactly one", flags.NArg())
	}
	i.program = flags.Arg(0)
	return i.save(*out)
}

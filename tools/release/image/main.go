// Command image packs programs for Linux, such as a CoreDNS of your own, into a container image. It needs neither Docker nor a
// base image:
//
//	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' ./cmd/coredns
//	go -C tools/release run ./image -name registry.example.org/coredns-multivalue:0.1.0 -o "$PWD/image.tar" "$PWD/coredns"
//
// Several programs, each for another architecture, are one image with an index. The image has the program, the certificates of
// public authorities, and nothing else. It runs as a user without rights, and the program has the capability to listen on port 53.
// The same programs make the same image, byte for byte.
//
// With -push, it sends an image that was made to the registry in its name, and prints its digest:
//
//	go -C tools/release run ./image -push -name registry.example.org/coredns-multivalue:0.1.0 "$PWD/image.tar"
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/coredns-multivalue/multivalue/tools/release/oci"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run does what the command line asks for.
func run(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	var o oci.Options
	name := flags.String("name", "localhost/coredns-multivalue:latest", "name of the image, with a tag")
	flags.BoolVar(&o.Authorities, "ca", true, "add the certificates of public authorities")
	flags.BoolVar(&o.Ports, "ports", true, "let the program listen on ports below 1024")
	flags.StringVar(&o.Beside, "beside", "", "add another program of this name, such as mvctl, from the directory of each program")
	out := flags.String("o", "image.tar", "file to write the archive to")
	push := flags.Bool("push", false, "send an archive that was made, and make none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !*push {
		if flags.NArg() == 0 {
			return errors.New("no program given: name one for each architecture")
		}
		return oci.Save(*out, *name, flags.Args(), o)
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%d archives given: name the one to push", flags.NArg())
	}
	digest, err := oci.Push(flags.Arg(0), *name)
	if err != nil {
		return err
	}
	fmt.Printf("%s@%s\n", *name, digest)
	return nil
}

// Command mvctl shows what a CoreDNS with multivalue believes, and drains addresses, over the socket or the URL of its property
// status.
//
// It knows the JSON of the status page (/openapi.json) and nothing of the plugin, so it works with a server of another version.
// Tables are for people. With -o json the server's JSON is passed through, for programs. docs/mvctl.md is its manual.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is that of the module. A test compares the two.
const version = "0.1.0"

// The exit statuses. Scripts rely on them, and docs/mvctl.md lists them.
const (
	exitGood    = 0
	exitTrouble = 1 // with --fail: something that is listed is in trouble
	exitUsage   = 2 // a command, an option or an argument is wrong
	exitServer  = 3 // the server cannot be reached, or cannot answer
	exitRefused = 4 // the server refuses: not allowed, or the file cannot be changed
)

// exitError is an error with the status to exit with. Those of the command line have none, and are exitUsage.
type exitError struct {
	code int
	err  error // nil if all is said already
}

// Error is empty if all is said already.
func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap lets callers find what a server has said.
func (e *exitError) Unwrap() error { return e.err }

// failf is an error with a status.
func failf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// app is one run of the program: where it writes, and the options that all commands have.
type app struct {
	out, errors io.Writer
	getenv      func(string) string // of the environment, or of a test

	// These are the options, as cobra has set them.

	server    string // a URL, or unix:PATH
	output    string // table or json
	tokenFile string // empty for none; the token itself is never on a command line, which other users can read
	fail      bool   // exit with exitTrouble if something is in trouble
}

func main() {
	// An interrupt ends a request that is under way, and changes -f.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{out: os.Stdout, errors: os.Stderr, getenv: os.Getenv}
	code := a.execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// execute runs a command, and returns the status to exit with.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.errors)
	// Errors of the command line come from cobra, all others from our commands.
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitGood
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(a.errors, "mvctl: "+clean(text))
	}
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return exit.code
	}
	return exitUsage
}

// command is the whole command line. Commands that read take no token, and need none; those that change something are in force.go. The
// shell completions come with the library.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use: "mvctl", Short: "Show and change what a CoreDNS with multivalue answers",
		Long: "Show and change what a CoreDNS with multivalue answers, over the property status of its Corefile.",
		// Help would hide what is wrong. It is one line, which execute writes.
		SilenceUsage: true, SilenceErrors: true, Version: version,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkOptions() },
	}
	root.SetVersionTemplate("mvctl {{.Version}}\n")
	// The environment decides what the options say by default, so that a shell can name its server once.
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", cmp.Or(a.getenv("MVCTL_SERVER"), defaultServer), "where the status is: a URL, or unix:PATH")
	flags.StringVarP(&a.output, "output", "o", "table", "table, or json for programs")
	flags.StringVar(&a.tokenFile, "token-file", a.getenv("MVCTL_TOKEN_FILE"), "file with the token, to change something over TCP")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	// They are in the order of the manual; help sorts them.
	root.AddCommand(a.targetsCommand(), a.namesCommand(), a.explainCommand(), a.changesCommand(), a.membersCommand(), a.configCommand(),
		a.forceCommand("drain", "Leave addresses out while others are up"),
		a.forceCommand("down", "Force addresses down"),
		a.forceCommand("up", "Force addresses up"),
		a.releaseCommand(),
		&cobra.Command{Use: "version", Short: "Show the version of this program", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
			fmt.Fprintln(a.out, "mvctl "+version)
		}})
	return root
}

// checkOptions looks for options that no command can work with.
func (a *app) checkOptions() error {
	if a.output != "table" && a.output != "json" {
		return failf(exitUsage, "invalid output %q: use table or json", a.output)
	}
	return nil
}

// json reports whether programs read the output.
// They get what the server wrote, with fields that this program does not know.
func (a *app) json() bool { return a.output == "json" }

// failFlag adds the option that makes trouble a status, and says what counts as trouble. Without it, a command that could show what it
// was asked for is good, whatever that is: a script that lists what is down must not fail because of it.
func (a *app) failFlag(c *cobra.Command, trouble string) *cobra.Command {
	c.Flags().BoolVar(&a.fail, "fail", false, "exit with 1 if "+trouble)
	return c
}

// troubled is the error of a command that was asked to fail. What is in trouble has been shown.
func (a *app) troubled(trouble bool) error {
	if a.fail && trouble {
		return &exitError{code: exitTrouble}
	}
	return nil
}

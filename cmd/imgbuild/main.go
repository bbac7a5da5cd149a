// Command imgbuild turns a bootc container image into bootable disks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/fault"
	"imgbuild/installer"
)

func main() {
	if installer.IsInit() {
		installer.Main() // of a machine that was started from an installation medium
		return
	}
	if installer.IsSession() { // of a shell on the console of such a machine
		if err := installer.Session(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal stops the build cleanly, a second one the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the command line args and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(stdin, stdout, stderr)
	root.SetArgs(withBuild(root, args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	// An interrupted upload says by itself what is there.
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && fault.ClassOf(err) != fault.Interrupted {
		fmt.Fprintln(stderr, "imgbuild: interrupted: nothing was written")
		return int(fault.Interrupted)
	}
	fmt.Fprintf(stderr, "imgbuild: %s\n", oneLine(err.Error()))
	for _, line := range fault.DetailsOf(err) {
		fmt.Fprintln(stderr, printable(line))
	}
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", oneLine(hint))
	}
	return int(fault.ClassOf(err))
}

// oneLine keeps a message from the outside from spreading over the terminal.
func oneLine(s string) string {
	return printable(strings.Join(strings.Fields(s), " "))
}

// printable keeps a text from controlling the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "imgbuild [build] [flags] IMAGE",
		Short: "Turn a bootc container image into bootable disks",
		Long: `imgbuild turns a bootc container image into bootable disk images: without root,
containers, KVM or loop devices, on any host, for any architecture.

"build" may be left out: imgbuild --type qcow2 registry.example.com/os:1`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asked, _ := cmd.Flags().GetBool("version"); asked {
				fmt.Fprintln(cmd.OutOrStdout(), version())
				return nil
			}
			return cmd.Help()
		},
	}
	// Not cobra's Version: its template links text/template, see docs/dependencies.md.
	root.Flags().Bool("version", false, "print the version")
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.New(fault.Usage, err, cmd.CommandPath()+" --help lists the flags")
	})
	root.PersistentFlags().String("log-level", "error", "how much to say on stderr: debug, info or error")
	root.PersistentFlags().BoolP("verbose", "v", false, "say more: --log-level info, and plain progress lines")
	root.AddCommand(newBuild(), newInstall(), newPlan(), newInspect(), newPull(), newCache(), newConvert(), newConfig(), newUpload(), newVerify(), newISO(), newServe(), newVersion())
	return root
}

// withBuild puts "build" before a command line that names no command, as
// bootc-image-builder does.
func withBuild(root *cobra.Command, args []string) []string {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, c := range root.Commands() {
		flags.AddFlagSet(c.Flags())
	}
	flags.AddFlagSet(root.PersistentFlags())
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return append([]string{"build"}, args...)
		case arg == "-h" || arg == "--help" || arg == "--version":
			if i == 0 && len(args) == 1 {
				return args
			}
		case strings.HasPrefix(arg, "-"):
			if takesValue(flags, arg) {
				i++
			}
		default:
			for _, c := range root.Commands() {
				if c.Name() == arg || c.HasAlias(arg) {
					return args
				}
			}
			if strings.HasPrefix(arg, cobra.ShellCompRequestCmd) {
				return args
			}
			return append([]string{"build"}, args...)
		}
	}
	if len(args) == 0 {
		return args
	}
	return append([]string{"build"}, args...)
}

// takesValue tells whether the flag has its value in the next argument.
func takesValue(flags *pflag.FlagSet, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	var f *pflag.Flag
	if name, long := strings.CutPrefix(arg, "--"); long {
		f = flags.Lookup(name)
	} else if len(arg) == 2 {
		f = flags.ShorthandLookup(arg[1:])
	}
	return f != nil && f.NoOptDefVal == ""
}

// cacheDir is where layers are kept unless --cache says otherwise.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fault.New(fault.Usage, fmt.Errorf("no place for a cache: %w", err), "name one with --cache DIR, or use --no-cache")
	}
	return filepath.Join(dir, "imgbuild"), nil
}

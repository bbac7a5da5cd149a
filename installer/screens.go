package installer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"imgbuild/blockdev"
	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/installer/medium"
	"imgbuild/kickstart"
)

// errConsole is wrapped by errors of the console itself.
var errConsole = errors.New("no console")

// errAgain leads back to the first question.
var errAgain = errors.New("once more")

// attended asks for everything.
func (in *Installer) attended(ctx context.Context) error {
	decided := in.job.Options
	for {
		in.job.Options = decided
		err := in.ask(ctx)
		if !errors.Is(err, errAgain) {
			return err
		}
	}
}

// ask goes through the questions once.
func (in *Installer) ask(ctx context.Context) error {
	for _, question := range []func(context.Context) error{in.askDisk, in.askRootFS, in.askUser, in.askConsent} {
		if err := question(ctx); err != nil {
			return err
		}
	}
	return nil
}

// line shows a prompt and reads an answer.
func (in *Installer) line(ctx context.Context, prompt string) (string, error) {
	in.say("%s", prompt)
	text, err := in.console.ReadLine(ctx, false)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errConsole, err)
	}
	return strings.TrimSpace(text), nil
}

// secret reads an answer that is not shown.
func (in *Installer) secret(ctx context.Context, prompt string) (string, error) {
	in.say("%s", prompt)
	text, err := in.console.ReadLine(ctx, true)
	in.say("\n")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errConsole, err)
	}
	return text, nil
}

// askDisk lets choose a disk. What cannot be installed to is shown, with the reason.
func (in *Installer) askDisk(ctx context.Context) error {
	for {
		disks, err := in.Machine.Disks(ctx)
		if err != nil {
			return err
		}
		possible := in.showDisks(disks)
		offered := in.offered(disks, possible)
		prompt := "\nDisk to install to (number)"
		switch {
		case len(possible) == 0:
			prompt = "\nThere is no disk to install to"
		case offered > 0:
			prompt = fmt.Sprintf("\nDisk to install to (number, return for %d)", offered)
		}
		answer, err := in.line(ctx, prompt+", l to look again, s for a shell, p to power off: ")
		if err != nil {
			return err
		}
		if answer == "" && offered > 0 {
			answer = strconv.Itoa(offered)
		}
		switch answer {
		case "", "l":
			continue
		case "s":
			if err := in.Machine.Shell(ctx); err != nil {
				in.say("%v\n", err)
			}
			continue
		case "p":
			return ended{kickstart.EndPowerOff}
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(possible) {
			in.job.Disk = possible[n-1]
			return nil
		}
		in.say("%q is none of them.\n", answer)
	}
}

// showDisks prints the disks, and returns those that can be chosen in the order of
// their numbers.
func (in *Installer) showDisks(disks []blockdev.Disk) (possible []blockdev.Disk) {
	in.say("\nDisks:\n")
	if len(disks) == 0 {
		in.say("  none was found\n")
	}
	for _, d := range disks {
		s := in.selection(d.Path, true)
		err := s.Check(d)
		if err == nil {
			err = in.Orders.forbidden(d)
		}
		mark := "   "
		why := ""
		if err != nil {
			why = "      not possible: " + err.Error() + "\n"
		} else {
			possible = append(possible, d)
			mark = fmt.Sprintf("%2d)", len(possible))
		}
		in.say(" %s %s\n      %s\n%s", mark, describe(d), d.Content, why)
	}
	return possible
}

// offered returns the number of the disk that was ordered, 0 where there is no order,
// or none that can be followed.
func (in *Installer) offered(disks, possible []blockdev.Disk) int {
	if in.Orders.Target == "" {
		return 0
	}
	d, err := in.Machine.Select(disks, in.selection(in.Orders.Target, true))
	if err != nil {
		in.say("The disk that was asked for cannot be offered: %v\n", err)
		return 0
	}
	return 1 + slices.IndexFunc(possible, func(p blockdev.Disk) bool { return p.Name == d.Name })
}

// describe names a disk by all that tells it from others.
func describe(d blockdev.Disk) string {
	text := d.String()
	if d.Serial != "" {
		text += ", serial " + d.Serial
	}
	if d.Transport != blockdev.Other {
		text += ", " + string(d.Transport)
	}
	if d.Removable {
		text += ", removable"
	}
	return text
}

// askRootFS lets choose the root file system where that is open.
func (in *Installer) askRootFS(ctx context.Context) error {
	list := in.Description.RootFS
	if len(list) < 2 || in.job.Options.RootFS != "" || in.job.Options.Layout != nil {
		return nil
	}
	for {
		answer, err := in.line(ctx, fmt.Sprintf("Root file system: %s (return for %s): ", strings.Join(list, ", "), list[0]))
		if err != nil {
			return err
		}
		switch {
		case answer == "":
			// As if nothing had been asked for, which is this.
			return nil
		case slices.Contains(list, answer):
			in.job.Options.RootFS = answer
			return nil
		}
		in.say("%q is none of them.\n", answer)
	}
}

// askUser lets make a user, unless the medium makes some.
func (in *Installer) askUser(ctx context.Context) error {
	if hasUsers(in.job.Options.Config) {
		return nil
	}
	for {
		name, err := in.line(ctx, "User to create, who may become root (return for none): ")
		if err != nil || name == "" {
			return err
		}
		u := blueprints.User{Name: name}
		if g := in.Description.Admins; g != "" {
			u.Groups = []string{g}
		}
		if u.Password, err = in.askPassword(ctx); err != nil {
			return err
		}
		key, err := in.line(ctx, "SSH key of "+name+" (return for none): ")
		if err != nil {
			return err
		}
		if key != "" {
			u.Key = &key
		}
		if err := in.addUser(u); err != nil {
			in.say("%v\n", err)
			for _, line := range fault.DetailsOf(err) {
				in.say("  %s\n", line)
			}
			continue
		}
		return nil
	}
}

// askPassword reads a password twice; nil is none.
func (in *Installer) askPassword(ctx context.Context) (*string, error) {
	for {
		first, err := in.secret(ctx, "Password (return for none, so that only an SSH key opens the account): ")
		if err != nil || first == "" {
			return nil, err
		}
		second, err := in.secret(ctx, "Once more: ")
		if err != nil {
			return nil, err
		}
		if first == second {
			return &first, nil
		}
		in.say("The two are not the same.\n")
	}
}

// askConsent is the last question.
func (in *Installer) askConsent(ctx context.Context) error {
	d := in.job.Disk
	in.say("\n%s will be installed to\n  %s\nwhich holds: %s\n", in.Description.Title, describe(d), d.Content)
	answer, err := in.line(ctx, "ALL DATA ON "+d.Path+" WILL BE ERASED. Type yes to install, anything else to go back: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return errAgain
	}
	return nil
}

// askEnd asks what comes next.
func (in *Installer) askEnd(ctx context.Context, more string) (End, error) {
	for {
		answer, err := in.line(ctx, "\n"+more+"r) reboot  p) power off  s) shell: ")
		if err != nil {
			return "", err
		}
		switch {
		case answer == "r":
			return kickstart.EndReboot, nil
		case answer == "p":
			return kickstart.EndPowerOff, nil
		case answer == "s":
			if err := in.Machine.Shell(ctx); err != nil {
				in.say("%v\n", err)
			}
		case answer == "t" && more != "":
			return in.start(ctx)
		}
	}
}

// title names what is installed.
func title(d *medium.Description) string {
	return "Installer of " + d.Title
}

// short is enough of a digest to compare it by eye.
func short(digest string) string {
	const n = len("sha256:") + 12
	if len(digest) > n {
		return digest[:n]
	}
	return digest
}

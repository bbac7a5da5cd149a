package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/oci"
)

func newCache() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "List, empty or check the cache of images",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "cache", "", "directory of the cache (default: the user's cache directory)")
	open := func() (*oci.Cache, error) {
		if dir == "" {
			var err error
			if dir, err = cacheDir(); err != nil {
				return nil, err
			}
		}
		return oci.OpenCache(dir)
	}
	cmd.AddCommand(newCacheList(open), newCachePrune(open), newCacheVerify(open))
	return cmd
}

// cacheListing is what "cache list" prints.
type cacheListing struct {
	Dir    string            `json:"directory"`
	Bytes  int64             `json:"bytes"` // on disk
	Files  int               `json:"files"`
	Images []oci.CachedImage `json:"images"`
}

func newCacheList(open func() (*oci.Cache, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images in the cache",
		Long: `List the images that were pulled from registries. Images share layers, so the
cache may hold less than the sum of their sizes, and more where it has layers of
local images.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			usage, err := c.Usage()
			if err != nil {
				return err
			}
			list := cacheListing{Dir: c.Dir(), Bytes: usage.Bytes, Files: usage.Files, Images: c.Images()}
			if asJSON {
				if list.Images == nil {
					list.Images = []oci.CachedImage{}
				}
				return printJSON(cmd.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tARCH\tDIGEST\tLAYERS\tSIZE\tUSED")
			for _, i := range list.Images {
				layers := strconv.Itoa(i.Layers)
				if i.Cached < i.Layers {
					layers = fmt.Sprintf("%d of %d", i.Cached, i.Layers)
				}
				fmt.Fprintf(w, "%s\t%s\t%.19s\t%s\t%s\t%s\n", oneLine(strings.TrimPrefix(i.Reference, "docker://")), oneLine(i.Arch),
					i.Digest, layers, blueprints.FormatSize(i.Bytes), i.Used.Format("2006-01-02 15:04"))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s in %d files\n", list.Dir, blueprints.FormatSize(list.Bytes), list.Files)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newCachePrune(open func() (*oci.Cache, error)) *cobra.Command {
	var size, older string
	var all bool
	cmd := &cobra.Command{
		Use:   "prune (--all | --cache-size SIZE | --older-than TIME)",
		Short: "Remove what was not used for the longest time",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, before := int64(-1), time.Time{}
			switch {
			case all && (size != "" || older != ""):
				return fault.New(fault.Usage, errors.New("--all leaves nothing for other limits"), "")
			case all:
				limit = 0
			case size == "" && older == "":
				return fault.New(fault.Usage, errors.New("nothing said about what to remove"), "--all, --cache-size SIZE or --older-than TIME, as in --older-than 30d")
			}
			if size != "" {
				var err error
				if limit, err = parseCacheSize(size); err != nil {
					return err
				}
			}
			if older != "" {
				age, err := parseAge(older)
				if err != nil {
					return fault.New(fault.Usage, fmt.Errorf("--older-than %q: %w", older, err), "a time such as 36h or 30d")
				}
				before = time.Now().Add(-age)
			}
			c, err := open()
			if err != nil {
				return err
			}
			freed, err := c.Prune(limit, before)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s freed\n", blueprints.FormatSize(freed))
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove everything")
	cmd.Flags().StringVar(&size, "cache-size", "", "keep at most that much")
	cmd.Flags().StringVar(&older, "older-than", "", "remove what was not used for that long: 36h, 30d")
	return cmd
}

// parseAge parses a time that Go knows, or a number of days.
func parseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errors.New("no number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return d, err
}

func newCacheVerify(open func() (*oci.Cache, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read all of the cache, and remove what is damaged",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			report, err := c.Verify(cmd.Context(), nil)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), report)
			} else {
				for _, path := range report.Damaged {
					fmt.Fprintf(cmd.OutOrStdout(), "damaged, removed: %s\n", oneLine(path))
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d files with %s checked\n", report.Checked, blueprints.FormatSize(report.Bytes))
			}
			if n := len(report.Damaged); n > 0 && err == nil {
				err = fault.New(fault.Output, fmt.Errorf("cache %s: %d of %d files were damaged and are removed", c.Dir(), n, report.Checked),
					"they are fetched again when they are needed; see whether the disk is failing")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

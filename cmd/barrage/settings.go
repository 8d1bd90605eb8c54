package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"barrage/config"
	"barrage/internal/keypair"
)

// settingFlags are --config and one flag for each setting.
type settingFlags struct {
	file string
	set  *pflag.FlagSet
}

// flagValue is the text of one setting's flag.
type flagValue struct{ text, hint string }

func (v *flagValue) String() string     { return v.text }
func (v *flagValue) Set(s string) error { v.text = s; return nil }
func (v *flagValue) Type() string       { return v.hint }

func addSettingFlags(cmd *cobra.Command) *settingFlags {
	f := &settingFlags{set: cmd.Flags()}
	f.set.SortFlags = false
	f.set.StringVar(&f.file, "config", "", "settings `FILE` (YAML; default: the one that BARRAGE_CONFIG names)")
	defaults := config.DefaultTexts()
	for _, s := range config.Settings() {
		v := &flagValue{text: defaults[s.Name], hint: s.Hint}
		if s.Switch() {
			v.hint = "bool"
		}
		flag := f.set.VarPF(v, s.Flag(), "", s.Summary)
		if s.Switch() {
			flag.NoOptDefVal = "true"
		}
	}
	return f
}

// load gives the settings from all sources; what is wrong with them is a usage error.
func (f *settingFlags) load() (config.Config, error) {
	given := map[string]string{}
	for _, s := range config.Settings() {
		if flag := f.set.Lookup(s.Flag()); flag.Changed {
			given[s.Name] = flag.Value.String()
		}
	}
	c, err := config.Load(f.file, os.Environ(), given)
	return c, usageError(err)
}

// check is load followed by validation, and by a look at the files of the certificate, of the keys of tokens, and at the keys of
// the server API.
func (f *settingFlags) check() (config.Config, error) {
	c, err := f.load()
	if err != nil {
		return c, err
	}
	err = c.Validate()
	if err == nil && c.TLS.Enabled() {
		err = keypair.Check(c.TLS.Cert, c.TLS.Key)
	}
	if err == nil {
		_, err = newTokens(&c, slog.New(slog.DiscardHandler))
	}
	if err == nil {
		_, err = apiKeys(c.API, slog.New(slog.DiscardHandler))
	}
	return c, usageError(err)
}

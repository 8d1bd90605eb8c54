package apikey

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	one = "one-0123456789abcdef"
	two = "two-0123456789abcdef"
)

func TestKeysOfTheSettings(t *testing.T) {
	keys, err := ParseList([]string{"backend:publish:" + one, "ops:admin:a:b:" + two, "both:publish+read:x" + one})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{one: "backend", "a:b:" + two: "ops", "x" + one: "both", two: "", "": ""} {
		if k, ok := match(keys, text); k.Name != want || ok != (want != "") {
			t.Errorf("the key %q belongs to %q, not to %q, %v", text, want, k.Name, ok)
		}
	}
	if keys[0].Scope != Publish || keys[1].Scope != Admin || keys[2].Scope != Publish|Read {
		t.Errorf("scopes are taken from the settings, not %v", keys)
	}
	for i, want := range []string{"publish", "admin", "publish+read"} {
		if got := keys[i].Scope.String(); got != want {
			t.Errorf("a scope is written as it is read: %s, not %s", want, got)
		}
	}
}

func TestBadKeysAreNamedButNotShown(t *testing.T) {
	const secret = "s3cret-0123456789"
	for item, want := range map[string]string{
		secret:                                  "item 1 is not of the form NAME:SCOPE:KEY",
		"a:" + secret:                           "item 1 is not of the form",
		"a:all:" + secret:                       "the scope must be publish, read, publish+read or admin",
		":read:" + secret:                       "the name has 0 characters",
		"a:read:s3cret":                         `the key "a" has 6 characters; give 16 to 256`,
		"a:read:" + secret + " x":               "cannot stand in a header",
		"a:read:" + secret + "弹":                "cannot stand in a header",
		"a:read:" + strings.Repeat(secret, 100): "has 1700 characters",
	} {
		_, err := ParseList([]string{item})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the item %q is refused with %q and without the key, not with %v", item, want, err)
		}
	}
	if _, err := ParseList([]string{"a:read:" + secret, "b:admin:" + secret}); err == nil || !strings.Contains(err.Error(), `"a" and "b" are the same key`) || strings.Contains(err.Error(), secret) {
		t.Errorf("one key with two scopes is refused, without showing it, not with %v", err)
	}
}

func TestTheFileOfKeysIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# keys of the shop\n\nadmin " + one + " shop\n")
	fixed, err := ParseList([]string{"fixed:read:fixed-0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, err := Open(fixed, path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go r.Watch(ctx, time.Second)
		expect := func(text, name string) {
			t.Helper()
			time.Sleep(2100 * time.Millisecond) // two looks
			synctest.Wait()
			if k, _ := r.Find(text); k.Name != name {
				t.Errorf("the key %q belongs to %q, not to %q", text, name, k.Name)
			}
		}
		expect(one, "shop")
		write("read " + two + "\n")
		expect(two, "line 1")
		expect(one, "")
		expect("fixed-0123456789abcdef", "fixed")
		write("read\n")
		expect(two, "line 1") // a file that cannot be used changes nothing
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect(two, "line 1")
		write("")
		expect(two, "")
		if r.Empty() {
			t.Error("a key of the settings stays in force whatever the file holds")
		}
		if strings.Contains(log.String(), one) || strings.Contains(log.String(), two) || !strings.Contains(log.String(), ":1: the line is not of the form SCOPE KEY [NAME]") {
			t.Errorf("what is wrong with a file is logged, and never a key: %s", log.String())
		}
	})
}

func TestAFileThatIsHalfWrittenTakesNoKeyAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	first, second := "admin "+one+" shop\n", "read "+two+" reader\n"
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first + second)
	r, err := Open(nil, path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(when, text string, want bool) {
		t.Helper()
		if _, ok := r.Find(text); ok != want {
			t.Errorf("%s the key %.3s is in force: %v, not %v", when, text, want, ok)
		}
	}
	for _, half := range []string{"", first, first + second[:5]} {
		write(half)
		r.look()
		expect("while the file is written", two, true)
		write(first + second)
		r.look()
		r.look()
		expect("when the file is complete", two, true)
	}
	write(first)
	r.look()
	expect("at the first look at a change", two, true)
	r.look()
	expect("at the second look at a change", two, false)
	expect("at the second look at a change", one, true)
}

func TestAFileThatCannotBeUsedIsAnErrorAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := Open(nil, path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "api.keys_file: the file "+path+" does not exist") {
		t.Errorf("a file that does not exist is named, not %v", err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#\n"), maxFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(nil, path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("a file that is too large is refused, not %v", err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("admin " + one + " shop\n# x\n\nread " + two)
	f.Fuzz(func(t *testing.T, content string) {
		keys, err := parseFile("keys", content)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Name == "" || k.Scope == 0 || k.Scope&^Admin != 0 {
				t.Fatalf("%q gives a key without a name or scope: %+v", content, k)
			}
		}
	})
}

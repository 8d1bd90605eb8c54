package centrifuge

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"barrage/auth"
	"barrage/proto"
)

func TestTheProtocolsPageListsAllErrors(t *testing.T) {
	page, err := os.ReadFile("../../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "\n## Codes\n")
	if !ok {
		t.Fatal("the page must have a section on codes")
	}
	table, _, _ = strings.Cut(table, "\n| unsubscribe |")
	for _, e := range []*proto.Error{
		proto.ErrInternal, proto.ErrUnknownChannel, proto.ErrDenied, proto.ErrMethod, proto.ErrSubscribed, proto.ErrLimit,
		proto.ErrBadRequest, proto.ErrNotAvailable, proto.ErrTokenExpired, proto.ErrExpired, proto.ErrTooMany, proto.ErrUnrecoverable,
	} {
		if code := failure(1, e).Error.Code; !regexp.MustCompile(fmt.Sprintf(`(?m)^\|[ 0-9,]*\b%d\b[ 0-9,]*\|`, code)).MatchString(table) {
			t.Errorf("the table of errors must have %d, %s", code, e.Message)
		}
	}
}

func TestANameThatIsNotOfItsNamespaceIsUnknown(t *testing.T) {
	policy := &auth.Policy{Default: auth.Open}
	policy.Default.Pattern = regexp.MustCompile(`^[a-z]+$`)
	c := open(t, Server{Policy: policy}, JSON).connect()
	c.Message([]byte(`{"id":2,"subscribe":{"channel":"A"}}`))
	if got := c.take(1)[0]; !strings.HasPrefix(got, `{"id":2,"error":{"code":102,`) {
		t.Errorf("a name that does not match is error 102, not %s", got)
	}
}

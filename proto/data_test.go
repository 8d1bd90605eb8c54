package proto

import "testing"

func TestCompactData(t *testing.T) {
	for text, want := range map[string]string{
		` {"a": [1, "x y"]} ` + "\n": `{"a":[1,"x y"]}`, "1": "1", `"弹幕"`: `"弹幕"`, " null": "null",
	} {
		if got, err := CompactData([]byte(text)); err != nil || string(got) != want {
			t.Errorf("the data %q is %q in compact form, not %q, %v", text, want, got, err)
		}
	}
	for _, text := range []string{"", " ", "{", "1 2", "tru", "{\"a\":\"\xff\"}", "1]"} {
		if got, err := CompactData([]byte(text)); err == nil || err.Code != ErrBadRequest.Code {
			t.Errorf("%q is no JSON value, but gave %q, %v", text, got, err)
		}
	}
}

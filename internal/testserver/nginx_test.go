package testserver

import "testing"

func TestNodesOfTheShippedConfigurationAreReplaced(t *testing.T) {
	conf := "upstream barrage {\n    # server lines\n    server a:1 max_fails=0;\n    server b:1 max_fails=0;\n    keepalive 8;\n}\n"
	want := "upstream barrage {\n    # server lines\n    server x:7 max_fails=0;\n    server y:7 max_fails=0;\n    keepalive 8;\n}\n"
	got, err := withServers([]byte(conf), []string{"x:7", "y:7"})
	if err != nil || string(got) != want {
		t.Fatalf("the server lines are replaced and everything else is kept: got %q, %v", got, err)
	}
	if _, err := withServers([]byte("upstream barrage {}\n"), nil); err == nil {
		t.Fatal("a nodes.conf without a server line is an error, not a balancer without nodes")
	}
}

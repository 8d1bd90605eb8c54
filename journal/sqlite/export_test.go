package sqlite

import (
	"context"
	"fmt"
)

// LimitPages bounds the size of the file, in pages.
func LimitPages(j *Journal, n int) error {
	if err := j.begin(context.Background()); err != nil {
		return err
	}
	defer j.end()
	_, err := j.writer.ExecContext(context.Background(), fmt.Sprint("PRAGMA max_page_count = ", n))
	return err
}

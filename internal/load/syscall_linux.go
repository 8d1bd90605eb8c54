package load

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a loop are made behind the scheduler's back. It would otherwise take the processor away from the
// loop's thread for every wait, look after it many times a second meanwhile, and find it a processor again: work that
// would count as the generator's. The collector and others still get their turn: the scheduler's signal ends a wait early.

func epollWait(ep int, events []unix.EpollEvent, d time.Duration) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(d.Milliseconds()), 0, 0)
	return result(n, errno)
}

// read reads from a socket that does not block.
func read(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

// write writes to a socket that does not block.
func write(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

/*
 * floor: the least that a server of WebSocket rooms can do, as a yardstick for real ones.
 *
 *   floor [--port N] [--loops N] [--ping SECONDS]   listens on 127.0.0.1, with one epoll loop per processor
 *
 * A connection joins the room that its path names. A text frame that it sends goes to all members of the room, itself
 * included; with "echo=0" in its query it is no member and only sends. With --ping each member is sent a ping that often,
 * whether it answers or not. That is all: no limits, no timeouts, no
 * fragments, no checks of what clients send, nothing is stored.
 *
 * What it shares with a good server is the mechanism that makes large rooms cheap. Each room has a byte log, a circular buffer
 * of ready frames; a member is a position in it. Whoever writes to a member writes everything between its position and
 * the head in one system call, so messages coalesce when they come faster than a walk over the room takes.
 *
 * Who writes: rooms of up to SMALL members are written by the loop that received the message. In larger ones each loop walks
 * its own members, CHUNK at a time, and looks after its sockets in between.
 *
 * Locks: room->append guards the log against other publishers; share->lock guards the members of one room in one
 * loop with their positions. A connection's descriptor is closed under the lock of its share only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_LOOPS = 16,
	MAX_FDS = 1 << 20,
	LOG = 4 << 20,    /* bytes of a room's log; pages that were never written cost nothing */
	MAX_FRAME = 64 << 10,
	INPUT = 256 << 10, /* one buffer per loop to read into */
	BUCKETS = 1 << 14, /* of the table of rooms */
	SMALL = 64,
	CHUNK = 512,
};

struct room;

/* conn is a connection; its index in the table is its descriptor. */
struct conn {
	struct room *room; /* NULL until it has joined */
	uint64_t at;       /* the next byte of the log that it needs */
	uint8_t *rest;     /* the beginning of a request or frame whose end has not come yet */
	uint32_t rest_len;
	uint32_t index; /* in its share's list */
	uint8_t loop, upgraded, member, blocked;
};

/* share is the part of a room that belongs to one loop. */
struct share {
	pthread_mutex_t lock;
	uint32_t *fds, n, cap;
	_Atomic int dirty; /* it waits in the loop's queue */
};

struct room {
	struct room *next; /* in its bucket */
	char *name;
	pthread_mutex_t append;
	_Atomic uint64_t head; /* bytes that were ever appended */
	_Atomic uint32_t members;
	uint8_t *log; /* LOG bytes twice, one after the other, so that every range of up to LOG bytes is in one piece */
	struct share share[MAX_LOOPS];
};

struct loop {
	int id, ep, wake, listener, top; /* top is the highest descriptor that it accepted */
	uint8_t *in;
	pthread_mutex_t lock; /* guards the queue */
	struct room **queue;  /* rooms to walk */
	uint32_t queued, queue_cap;
};

static struct conn *conns;
static struct loop loops[MAX_LOOPS];
static int nloops, port = 9000, ping;
static struct room *rooms[BUCKETS];
static pthread_mutex_t rooms_lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *grow(void *p, size_t n)
{
	if (!(p = realloc(p, n)))
		die("memory");
	return p;
}

/* ---- SHA-1 (FIPS 180-4) and base64 (RFC 4648), for the handshake alone ---- */

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* sha1 hashes n <= 119 bytes. */
static void sha1(const uint8_t *text, size_t n, uint8_t out[20])
{
	uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
	uint8_t padded[128] = {0};
	size_t blocks = (n + 8) / 64 + 1;
	memcpy(padded, text, n);
	padded[n] = 0x80;
	for (int i = 0; i < 8; i++)
		padded[64 * blocks - 1 - i] = (uint64_t)n * 8 >> 8 * i;
	for (size_t b = 0; b < blocks; b++) {
		uint32_t w[80], v[5];
		for (int i = 0; i < 16; i++) {
			uint32_t big;
			memcpy(&big, padded + 64 * b + 4 * i, 4);
			w[i] = ntohl(big);
		}
		for (int i = 16; i < 80; i++)
			w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
		memcpy(v, h, sizeof v);
		for (int i = 0; i < 80; i++) {
			uint32_t f, k;
			if (i < 20)
				f = (v[1] & v[2]) | (~v[1] & v[3]), k = 0x5A827999;
			else if (i < 40)
				f = v[1] ^ v[2] ^ v[3], k = 0x6ED9EBA1;
			else if (i < 60)
				f = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]), k = 0x8F1BBCDC;
			else
				f = v[1] ^ v[2] ^ v[3], k = 0xCA62C1D6;
			uint32_t t = rol(v[0], 5) + f + v[4] + k + w[i];
			v[4] = v[3], v[3] = v[2], v[2] = rol(v[1], 30), v[1] = v[0], v[0] = t;
		}
		for (int i = 0; i < 5; i++)
			h[i] += v[i];
	}
	for (int i = 0; i < 20; i++)
		out[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

static void base64_20(const uint8_t in[20], char out[29])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t padded[21] = {0};
	memcpy(padded, in, 20);
	for (int i = 0; i < 7; i++) {
		uint32_t v = padded[3 * i] << 16 | padded[3 * i + 1] << 8 | padded[3 * i + 2];
		for (int k = 0; k < 4; k++)
			out[4 * i + k] = digits[v >> (18 - 6 * k) & 63];
	}
	out[27] = '=', out[28] = 0;
}

/* ---- rooms ---- */

static struct room *find_room(const char *name)
{
	uint32_t hash = 2166136261u;
	for (const char *c = name; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	struct room **bucket = &rooms[hash % BUCKETS], *r;
	pthread_mutex_lock(&rooms_lock);
	for (r = *bucket; r && strcmp(r->name, name); r = r->next)
		;
	if (!r) {
		if (!(r = calloc(1, sizeof *r)) || !(r->name = strdup(name)))
			die("memory");
		r->log = mmap(NULL, 2 * (size_t)LOG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (r->log == MAP_FAILED)
			die("memory of a room");
		pthread_mutex_init(&r->append, NULL);
		for (int i = 0; i < nloops; i++)
			pthread_mutex_init(&r->share[i].lock, NULL);
		r->next = *bucket;
		*bucket = r;
	}
	pthread_mutex_unlock(&rooms_lock);
	return r;
}

static void want(int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};
	epoll_ctl(loops[conns[fd].loop].ep, EPOLL_CTL_MOD, fd, &e);
}

/* catch_up writes to a member all that it has not got. Its share is locked. */
static void catch_up(struct conn *c, int fd)
{
	uint64_t head = atomic_load_explicit(&c->room->head, memory_order_acquire);
	if (c->at == head || c->blocked)
		return;
	if (head - c->at > LOG - MAX_FRAME) { /* what it needs is gone, or about to go: the loop will see its end */
		shutdown(fd, SHUT_RDWR);
		return;
	}
	ssize_t w = send(fd, c->room->log + c->at % LOG, head - c->at, MSG_NOSIGNAL);
	if (w > 0)
		c->at += w;
	if (c->at < head) {
		c->blocked = 1;
		want(fd, EPOLLIN | EPOLLOUT);
	}
}

static void walk(struct share *s, uint32_t from, uint32_t to)
{
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = from; i < to && i < s->n; i++)
		catch_up(&conns[s->fds[i]], s->fds[i]);
	pthread_mutex_unlock(&s->lock);
}

static void mark_dirty(struct loop *l, struct room *r)
{
	if (!r->share[l->id].n || atomic_exchange(&r->share[l->id].dirty, 1))
		return;
	pthread_mutex_lock(&l->lock);
	if (l->queued == l->queue_cap)
		l->queue = grow(l->queue, (l->queue_cap = 2 * l->queue_cap + 64) * sizeof *l->queue);
	l->queue[l->queued++] = r;
	int first = l->queued == 1;
	pthread_mutex_unlock(&l->lock);
	if (first && write(l->wake, &(uint64_t){1}, 8) < 0)
		die("eventfd");
}

/* publish appends a text frame to a room's log and has it written. */
static void publish(struct room *r, const uint8_t *text, size_t n)
{
	uint8_t frame[4 + MAX_FRAME];
	size_t len = 2;
	frame[0] = 0x81;
	if (n < 126)
		frame[1] = n;
	else
		frame[1] = 126, frame[2] = n >> 8, frame[3] = n, len = 4;
	memcpy(frame + len, text, n);
	len += n;
	pthread_mutex_lock(&r->append);
	uint64_t head = r->head, at = head % LOG;
	size_t piece = LOG - at < len ? LOG - at : len;
	memcpy(r->log + at, frame, piece), memcpy(r->log + LOG + at, frame, piece);
	memcpy(r->log, frame + piece, len - piece), memcpy(r->log + LOG, frame + piece, len - piece);
	atomic_store_explicit(&r->head, head + len, memory_order_release);
	pthread_mutex_unlock(&r->append);
	for (int i = 0; i < nloops; i++) {
		if (r->members > SMALL)
			mark_dirty(&loops[i], r);
		else if (r->share[i].n)
			walk(&r->share[i], 0, SMALL);
	}
}

/* ---- connections; what follows runs in the loop that owns the connection ---- */

static void join(struct conn *c, int fd, struct room *r, int member)
{
	struct share *s = &r->share[c->loop];
	c->room = r, c->upgraded = 1;
	if (!member)
		return;
	pthread_mutex_lock(&s->lock);
	if (s->n == s->cap)
		s->fds = grow(s->fds, (s->cap = 2 * s->cap + 16) * sizeof *s->fds);
	c->member = 1, c->at = r->head, c->index = s->n;
	s->fds[s->n++] = fd;
	pthread_mutex_unlock(&s->lock);
	r->members++;
}

static void end(struct conn *c, int fd)
{
	struct share *s = c->room ? &c->room->share[c->loop] : NULL;
	free(c->rest);
	if (s)
		pthread_mutex_lock(&s->lock);
	if (c->member) {
		uint32_t last = s->fds[--s->n];
		s->fds[c->index] = last;
		conns[last].index = c->index;
		c->room->members--;
	}
	struct room *r = c->member ? c->room : NULL;
	memset(c, 0, sizeof *c);
	close(fd);
	if (s)
		pthread_mutex_unlock(&s->lock);
	if (r) /* a walk under way may have missed the member that moved */
		mark_dirty(&loops[s - r->share], r);
}

/* upgrade answers a request and joins its room; the bytes that it took, 0 for more to come, -1 for a bad one. */
static int upgrade(struct conn *c, int fd, char *in, size_t n)
{
	char *over = memmem(in, n, "\r\n\r\n", 4), path[512], text[128], accept[29], answer[256];
	uint8_t hash[20];
	if (!over)
		return n < 8192 ? 0 : -1;
	*over = 0;
	char *key = strcasestr(in, "\r\nSec-WebSocket-Key:");
	if (!key || sscanf(in, "GET %511s HTTP/1.1\r\n", path) != 1 || sscanf(key + 20, " %63s", text) != 1)
		return -1;
	strcat(text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
	sha1((uint8_t *)text, strlen(text), hash);
	base64_20(hash, accept);
	char *query = strchr(path, '?');
	if (query)
		*query++ = 0;
	int len = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
	if (write(fd, answer, len) != len)
		return -1;
	join(c, fd, find_room(path), !query || !strstr(query, "echo=0"));
	return over + 4 - in;
}

/* take_frame handles the frame at the start of in: the bytes that it took, 0 for more to come, -1 for the end. */
static int take_frame(struct conn *c, uint8_t *in, size_t n)
{
	if (n < 6)
		return 0;
	size_t len = in[1] & 127, header = len == 126 ? 8 : 6;
	if (header == 8)
		len = in[2] << 8 | in[3];
	if (len == 127 && header == 6)
		return -1;
	if (n < header + len)
		return 0;
	uint8_t *mask = in + header - 4, *text = in + header;
	for (size_t i = 0; i < len; i++)
		text[i] ^= mask[i & 3];
	if ((in[0] & 15) == 8)
		return -1;
	if ((in[0] & 15) == 1)
		publish(c->room, text, len);
	return header + len;
}

static void receive(struct loop *l, int fd)
{
	struct conn *c = &conns[fd];
	if (c->rest_len)
		memcpy(l->in, c->rest, c->rest_len);
	ssize_t got = read(fd, l->in + c->rest_len, INPUT - c->rest_len);
	if (got < 0 && errno == EAGAIN)
		return;
	int took = got > 0 ? 1 : -1;
	size_t pos = 0, n = c->rest_len + (got > 0 ? got : 0);
	while (took > 0 && pos < n) {
		took = c->upgraded ? take_frame(c, l->in + pos, n - pos) : upgrade(c, fd, (char *)l->in + pos, n - pos);
		pos += took > 0 ? took : 0;
	}
	if (took < 0) {
		end(c, fd);
		return;
	}
	if ((c->rest_len = n - pos)) {
		c->rest = grow(c->rest, c->rest_len);
		memcpy(c->rest, l->in + pos, c->rest_len);
	} else {
		free(c->rest);
		c->rest = NULL;
	}
}

static void writable(struct conn *c, int fd)
{
	if (!c->member)
		return;
	struct share *s = &c->room->share[c->loop];
	pthread_mutex_lock(&s->lock);
	c->blocked = 0;
	catch_up(c, fd);
	if (!c->blocked)
		want(fd, EPOLLIN);
	pthread_mutex_unlock(&s->lock);
}

static void accept_some(struct loop *l)
{
	for (int i = 0; i < 64; i++) {
		int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		conns[fd] = (struct conn){.loop = l->id};
		if (fd > l->top)
			l->top = fd;
		struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
		epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e);
	}
}

/* walk_dirty walks a chunk of the first dirty room; 0 when none is left. *pos is how far the walk is. */
static int walk_dirty(struct loop *l, struct room **now, uint32_t *pos)
{
	if (!*now) {
		pthread_mutex_lock(&l->lock);
		if (l->queued)
			*now = l->queue[--l->queued];
		pthread_mutex_unlock(&l->lock);
		if (!*now)
			return 0;
		*pos = 0;
		atomic_store(&(*now)->share[l->id].dirty, 0); /* what comes from here on marks it again */
	}
	struct share *s = &(*now)->share[l->id];
	walk(s, *pos, *pos + CHUNK);
	if ((*pos += CHUNK) >= s->n)
		*now = NULL;
	return 1;
}

/* ping_some pings the members whose second it is, and returns how many milliseconds are left of it. */
static int ping_some(struct loop *l, time_t *last)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	for (int fd = now.tv_sec % ping; *last != now.tv_sec && fd <= l->top; fd += ping) {
		struct conn *c = &conns[fd];
		if (!c->member || c->loop != l->id)
			continue;
		pthread_mutex_t *lock = &c->room->share[l->id].lock;
		pthread_mutex_lock(lock);
		if (!c->blocked && c->at == c->room->head && send(fd, "\x89", 2, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			shutdown(fd, SHUT_RDWR);
		pthread_mutex_unlock(lock);
	}
	*last = now.tv_sec;
	return 1000 - now.tv_nsec / 1000000;
}

static void *run(void *arg)
{
	struct loop *l = arg;
	struct epoll_event ev[256];
	struct room *now = NULL;
	uint32_t pos = 0;
	time_t pinged = 0;
	for (int busy = 0;; busy = walk_dirty(l, &now, &pos)) {
		int rest = ping ? ping_some(l, &pinged) : -1;
		int n = epoll_wait(l->ep, ev, 256, busy ? 0 : rest);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			uint64_t rung;
			if (fd == l->wake && read(fd, &rung, 8) >= 0)
				continue;
			if (fd == l->listener) {
				accept_some(l);
				continue;
			}
			if (ev[i].events & EPOLLOUT)
				writable(&conns[fd], fd);
			if (ev[i].events & ~EPOLLOUT)
				receive(l, fd);
		}
	}
	return NULL;
}

static int listen_on(int p)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(p), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 4096))
		die("listening");
	return s;
}

static void start_loop(struct loop *l, int id)
{
	l->id = id;
	l->in = grow(NULL, INPUT);
	pthread_mutex_init(&l->lock, NULL);
	l->ep = epoll_create1(EPOLL_CLOEXEC);
	l->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	l->listener = listen_on(port);
	int fds[] = {l->wake, l->listener};
	for (int i = 0; i < 2; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.fd = fds[i]};
		if (epoll_ctl(l->ep, EPOLL_CTL_ADD, fds[i], &e))
			die("epoll");
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;
	nloops = sysconf(_SC_NPROCESSORS_ONLN);
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--port"))
			port = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--loops"))
			nloops = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--ping"))
			ping = atoi(argv[i + 1]);
		else
			argc = 0;
	}
	if (argc % 2 == 0) {
		fprintf(stderr, "usage: floor [--port N] [--loops N] [--ping SECONDS]\n");
		return 2;
	}
	nloops = nloops < 1 ? 1 : nloops > MAX_LOOPS ? MAX_LOOPS : nloops;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max < MAX_FDS ? files.rlim_max : MAX_FDS;
	setrlimit(RLIMIT_NOFILE, &files);
	conns = mmap(NULL, MAX_FDS * sizeof *conns, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (conns == MAP_FAILED)
		die("memory");
	for (int i = 0; i < nloops; i++)
		start_loop(&loops[i], i);
	for (int i = 1; i < nloops; i++)
		pthread_create(&(pthread_t){0}, NULL, run, &loops[i]);
	run(&loops[0]);
}

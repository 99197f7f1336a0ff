#include "nbd_server.h"

#include <assert.h>
#include <errno.h>
#include <libnbd.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_MAX	((uint64_t)32 << 20)	/* bytes that any server takes at once (nbd proto.md, "Block size constraints") */
#define IN_FLIGHT_MAX	16u

struct served served;

enum command_kind { COMMAND_STATUS, COMMAND_READ, COMMAND_WRITE, COMMAND_ZERO, COMMAND_FLUSH };

struct command {
	bool		 open;
	enum command_kind kind;
	uint64_t	 offset, length, told;
	void		*buf;
	const void	*from;
	nbd_extent_callback extents;
};

struct nbd_handle {
	bool		 connected, dead, second;
	char		 context[300];
	int64_t		 next;
	struct command	 commands[IN_FLIGHT_MAX];
};

uint8_t
served_byte(uint64_t offset)
{
	return ((uint8_t)(offset ^ offset >> 8 ^ offset >> 16 ^ 0x5a));
}

static uint8_t
next_byte(void)
{
	if (served.left == 0)
		return (0);
	served.left--;
	return (*served.input++);
}

static struct served_map *
map_of(const struct nbd_handle *h)
{
	return (strcmp(h->context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 ? &served.base : &served.dirty);
}

/* What a reader has to make of it, byte for byte as the protocol says. */
static void
note(const struct nbd_handle *h, uint64_t from, uint64_t length, uint32_t flags)
{
	struct served_map *map = map_of(h);
	bool base = map == &served.base, data = base ? (flags & LIBNBD_STATE_ZERO) == 0 : (flags & 1) != 0;

	length = from >= served.size ? 0 : length < served.size - from ? length : served.size - from;
	for (uint64_t s = from / 512; data && length > 0 && s <= (from + length - 1) / 512 && s < SERVED_SECTORS; s++)
		map->data[s] = true;
	if (from == map->end)
		map->end += length;
}

static void
say_extents(struct nbd_handle *h, struct command *c)
{
	static const char *const others[] = { LIBNBD_CONTEXT_BASE_ALLOCATION, "qemu:dirty-bitmap:other", "" };
	uint8_t which = next_byte();
	int64_t off = (int8_t)next_byte();
	size_t n = next_byte(), entries = n & 127, words = entries * 2 - (entries > 0 && n > 127);
	const char *context = which == 0 ? h->context : others[which % 3];
	uint64_t at = c->told + (uint64_t)(off * 512);
	uint32_t *e = malloc((words + 1) * sizeof(*e)), length;
	bool right = off == 0 && strcmp(context, h->context) == 0;
	int error = 0;

	assert(e != NULL);
	for (size_t i = 0; i < entries; i++) {
		length = next_byte();
		for (int k = 8; k < 32; k += 8)
			length |= (uint32_t)next_byte() << k;
		e[2 * i] = length;
		if (2 * i + 1 == words)
			break;
		e[2 * i + 1] = next_byte();
		if (right) {
			note(h, c->told, length, e[2 * i + 1]);
			c->told += length < served.size - c->told ? length : served.size - c->told;
		}
	}
	/* Exactly as large as it says: a sanitizer sees what is read beyond. */
	e = realloc(e, words * sizeof(*e) + (words == 0));
	assert(e != NULL && c->extents.callback(c->extents.user_data, context, at, e, words, &error) != -1);
	free(e);
}

static void
carry_out(struct command *c)
{
	switch (c->kind) {
	case COMMAND_READ:
		for (uint64_t i = 0; i < c->length; i++)
			((uint8_t *)c->buf)[i] = served_byte(c->offset + i);
		break;
	case COMMAND_WRITE:
		for (uint64_t i = 0; i < c->length && c->offset + i < SERVED_MAX; i++)
			served.content[c->offset + i] = ((const uint8_t *)c->from)[i];
		break;
	case COMMAND_ZERO:
		for (uint64_t i = 0; i < c->length && c->offset + i < SERVED_MAX; i++)
			served.content[c->offset + i] = 0;
		break;
	case COMMAND_STATUS:
	case COMMAND_FLUSH:
		break;
	}
}

int
nbd_aio_command_completed(struct nbd_handle *h, uint64_t cookie)
{
	struct command *c = &h->commands[cookie % IN_FLIGHT_MAX];

	assert(c->open);
	for (;;)
		switch (h->dead ? 'X' : next_byte()) {
		case 'P':
			return (0);
		case 'E':
			if (c->kind == COMMAND_STATUS)
				say_extents(h, c);
			break;
		case 'X':
			h->dead = true;
			/* FALLTHROUGH */
		case 'F':
			served.failed = true;
			c->open = false;
			return (-1);
		default:
			carry_out(c);
			c->open = false;
			return (1);
		}
}

/* As libnbd is strict by default: within the export, and aligned as its server wants it. */
static int64_t
add(struct nbd_handle *h, struct command c)
{
	uint64_t align = served.alignment > 0 ? (uint64_t)served.alignment : 1;
	struct command *mine = &h->commands[h->next % IN_FLIGHT_MAX];

	if (h->dead)
		return (-1);
	assert(h->connected && !mine->open);
	if (c.kind != COMMAND_FLUSH && (c.length == 0 || c.offset > served.size || c.length > served.size - c.offset || c.length > UINT32_MAX))
		return (-1);
	assert(c.length <= PIECE_MAX || c.kind == COMMAND_STATUS || c.kind == COMMAND_ZERO);
	if (c.kind != COMMAND_STATUS && (c.offset % align != 0 || c.length % align != 0)) {
		assert(c.kind != COMMAND_READ);
		return (-1);
	}
	c.open = true;
	c.told = c.offset;
	*mine = c;
	return (h->next++);
}

int64_t
nbd_aio_block_status(struct nbd_handle *h, uint64_t count, uint64_t offset, nbd_extent_callback extents, nbd_completion_callback done, uint32_t flags)
{
	assert(done.callback == NULL && flags == 0 && extents.free == NULL && h->context[0] != '\0');
	return (add(h, (struct command){ .kind = COMMAND_STATUS, .offset = offset, .length = count, .extents = extents }));
}

int64_t
nbd_aio_pread(struct nbd_handle *h, void *buf, size_t count, uint64_t offset, nbd_completion_callback done, uint32_t flags)
{
	assert(done.callback == NULL && flags == 0);
	return (add(h, (struct command){ .kind = COMMAND_READ, .offset = offset, .length = count, .buf = buf }));
}

int64_t
nbd_aio_pwrite(struct nbd_handle *h, const void *buf, size_t count, uint64_t offset, nbd_completion_callback done, uint32_t flags)
{
	assert(done.callback == NULL && flags == 0);
	return (add(h, (struct command){ .kind = COMMAND_WRITE, .offset = offset, .length = count, .from = buf }));
}

int64_t
nbd_aio_zero(struct nbd_handle *h, uint64_t count, uint64_t offset, nbd_completion_callback done, uint32_t flags)
{
	assert(done.callback == NULL && flags == 0 && !served.no_zero);
	return (add(h, (struct command){ .kind = COMMAND_ZERO, .offset = offset, .length = count }));
}

int64_t
nbd_aio_flush(struct nbd_handle *h, nbd_completion_callback done, uint32_t flags)
{
	assert(done.callback == NULL && flags == 0 && !served.no_flush);
	return (add(h, (struct command){ .kind = COMMAND_FLUSH }));
}

/* ---- connections ---- */

struct nbd_handle *
nbd_create(void)
{
	struct nbd_handle *h = calloc(1, sizeof(*h));

	assert(h != NULL);
	h->second = served.connections > 0;
	served.handles++;
	return (h);
}

void
nbd_close(struct nbd_handle *h)
{
	served.handles -= h != NULL;
	free(h);
}

static int
connected(struct nbd_handle *h)
{
	served.connections++;
	h->dead = h->second && served.second_dies;
	h->connected = !h->dead;
	served.failed = served.failed || h->dead;
	return (0);
}

int
nbd_aio_connect_unix(struct nbd_handle *h, const char *path)
{
	(void)path;
	return (connected(h));
}

int
nbd_aio_connect_uri(struct nbd_handle *h, const char *uri)
{
	(void)uri;
	return (connected(h));
}

int
nbd_aio_connect_systemd_socket_activation(struct nbd_handle *h, char **argv)
{
	(void)argv;
	return (connected(h));
}

int
nbd_aio_disconnect(struct nbd_handle *h, uint32_t flags)
{
	assert(flags == 0);
	h->connected = false;
	return (h->dead ? -1 : 0);
}

int
nbd_poll(struct nbd_handle *h, int timeout)
{
	assert(timeout > 0);
	return (h->dead ? -1 : 1);
}

int
nbd_aio_is_ready(struct nbd_handle *h)
{
	return (h->connected && !h->dead);
}

int
nbd_aio_is_dead(struct nbd_handle *h)
{
	return (h->dead);
}

int
nbd_aio_is_closed(struct nbd_handle *h)
{
	return (!h->connected);
}

int
nbd_set_export_name(struct nbd_handle *h, const char *name)
{
	(void)h;
	(void)name;
	return (0);
}

int
nbd_set_uri_allow_local_file(struct nbd_handle *h, bool allow)
{
	(void)h;
	assert(!allow);
	return (0);
}

int
nbd_add_meta_context(struct nbd_handle *h, const char *name)
{
	assert(strlen(name) < sizeof(h->context));
	strcpy(h->context, name);
	return (0);
}

int
nbd_can_meta_context(struct nbd_handle *h, const char *name)
{
	assert(strcmp(name, h->context) == 0);
	return (strcmp(name, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 ? !served.no_base : !served.no_bitmap);
}

int64_t
nbd_get_size(struct nbd_handle *h)
{
	return ((int64_t)(served.size + (h->second && served.second_differs)));
}

int64_t
nbd_get_block_size(struct nbd_handle *h, int which)
{
	(void)h;
	assert(which == LIBNBD_SIZE_MINIMUM);
	return (served.alignment);
}

int
nbd_is_read_only(struct nbd_handle *h)
{
	(void)h;
	return (served.read_only);
}

int
nbd_can_zero(struct nbd_handle *h)
{
	(void)h;
	return (!served.no_zero);
}

int
nbd_can_flush(struct nbd_handle *h)
{
	(void)h;
	return (!served.no_flush);
}

const char *
nbd_get_error(void)
{
	return (served.left % 2 ? "the server says no" : NULL);
}

int
nbd_get_errno(void)
{
	return (EIO);
}

/* ssh_wire.h - how SSH writes numbers and strings (RFC 4251, section 5), read within bounds. */
#ifndef OVB_SSH_WIRE_H
#define OVB_SSH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left to read. */
struct ssh_wire {
	const uint8_t	*p;
	size_t		 n;
};

static inline bool
ssh_wire_u32(struct ssh_wire *w, uint32_t *v)
{
	if (w->n < 4)
		return (false);
	*v = (uint32_t)w->p[0] << 24 | (uint32_t)w->p[1] << 16 | (uint32_t)w->p[2] << 8 | w->p[3];
	w->p += 4;
	w->n -= 4;
	return (true);
}

static inline bool
ssh_wire_string(struct ssh_wire *w, struct ssh_wire *out)
{
	uint32_t n;

	if (!ssh_wire_u32(w, &n) || n > w->n)
		return (false);
	*out = (struct ssh_wire){ w->p, n };
	w->p += n;
	w->n -= n;
	return (true);
}

static inline void
ssh_wire_put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

#endif

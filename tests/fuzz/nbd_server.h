/*
 * nbd_server.h - libnbd's calls, as far as we make them, with a server behind them that answers as a fuzzer's input says.
 *
 * Calling sequence:  served = (struct served){ ... } -> (what uses libnbd) -> look at ${served}
 * The rest of the input is what comes for each command, in the order in which commands are waited for:
 *   'P'  nothing yet
 *   'E'  extents: which context (0: the right one), by how many sectors their beginning is off, how many, and then each: length (4 bytes), flags
 *        (1 byte); with 128 more, the last one has no flags
 *   'F'  the command fails, 'X'  the connection is lost
 *   any other byte, or the end: the command is done
 */
#ifndef OVB_FUZZ_NBD_SERVER_H
#define OVB_FUZZ_NBD_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVED_MAX	((uint64_t)64 << 10)	/* bytes of an export whose content is looked at */
#define SERVED_SECTORS	(SERVED_MAX / 512)

struct served_map {
	bool		 data[SERVED_SECTORS];	/* by sector: the server has said that something in it is data, or dirty */
	uint64_t	 end;			/* how far it has told, without gaps */
};

struct served {
	const uint8_t	*input;
	size_t		 left;
	uint64_t	 size;
	int64_t		 alignment;
	bool		 no_base, no_bitmap, second_dies, second_differs, read_only, no_zero, no_flush;
	const char	*bitmap;		/* its context */

	/* What became of it. */
	struct served_map base, dirty;
	uint8_t		 content[SERVED_MAX];	/* what was written */
	unsigned int	 connections, handles;
	bool		 failed;			/* a command or a connection did */
};

extern struct served served;

/** served_byte(offset): What is read there. */
uint8_t served_byte(uint64_t offset);

#endif

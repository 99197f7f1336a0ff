/* freeze_guard.h - what the guard and its parent say to each other: single bytes on a socket. */
#ifndef OVB_FREEZE_GUARD_H
#define OVB_FREEZE_GUARD_H

#define GUARD_OPTION	"--freeze-guard"
#define GUARD_FD	3

enum {
	/* of the parent */
	GUARD_ARM	= 'A',		/* the guest is about to be frozen: the deadline counts from now */
	GUARD_DISARM	= 'D',		/* it is thawed */
	GUARD_THAW	= 'T',		/* it may be frozen: thaw it now */

	/* of the guard */
	GUARD_READY	= 'R',
	GUARD_BUSY	= 'B',		/* another guard has that guest */
	GUARD_ARMED	= 'a',
	GUARD_DISARMED	= 'd',
	GUARD_FIRED	= 'F',		/* the guard thaws; GUARD_DISARMED follows when that is done */
};

#endif

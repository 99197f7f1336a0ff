/* host.h - what of the host the model has. */
#ifndef OVB_FAKE_HOST_H
#define OVB_FAKE_HOST_H

/** qemu_img(argc, argv): This program, as qemu-img. */
int qemu_img(int argc, char **argv);

#endif

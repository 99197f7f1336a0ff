/*
 * ssh_ctr.h - AES-128-CTR that is quick when it is asked for 16 bytes at a time, as libssh2 does (1.10 and 1.11, transport.c).
 *
 * Of what libssh2 spends on a transfer nearly half are such calls, each of which sets AES up for a single block.  In counter mode the key stream
 * does not depend on the data, so it can be made ahead, by OpenSSL's own AES, in pieces that keep the CPU's pipelines full; a call then is an XOR.
 * OpenSSL takes it as it takes any implementation, from a provider (provider-cipher(7)), and whoever asks for AES-128-CTR gets it.
 */
#ifndef OVB_SSH_CTR_H
#define OVB_SSH_CTR_H

/**
 * ssh_ctr_install():
 * From now on, AES-128-CTR of OpenSSL's default library context is this one.  Where that cannot be, or where OpenSSL runs in FIPS mode, all stays
 * as it is, only slower.
 * Threads: once, before any other uses AES-128-CTR.
 */
void ssh_ctr_install(void);

#endif

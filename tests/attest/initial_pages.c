/* SPDX-License-Identifier: MIT */
/*
 * Writes what the memory of each guest holds before it starts, laid out by vmm/ itself, for mrtd.py
 * to hash:
 *
 *   initial_pages TAIN_CFG SHIM SHARED_BIT [PATH=FILE...]
 *
 * SHIM holds the page of the boot shim, SHARED_BIT is that bit's number, PATH a file's name in
 * TAIN_CFG. On standard output stands "linux NAME", "flat NAME" (told the SHARED bit) or "vm NAME";
 * for a TD, in the order of measurement, "piece GPA LENGTH WHAT" in hexadecimal and LENGTH bytes
 * each; and "end". A guest that cannot be laid out is named on standard error, and left out; the
 * status is then 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/machine.h"
#include "vmm/guest_image.h"

/* Where vmm/ points to; the bytes come from SHIM. */
const u8 shim_image[PAGE_BYTES];

static struct machine described;

static void give_up(const char *what, const char *path)
{
    fprintf(stderr, "initial_pages: %s: %s\n", path, what);
    exit(1);
}

static u8 *read_whole(const char *path, u64 *len_bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        give_up("cannot be read", path);
    long len = ftell(file);
    u8 *data = len < 0 ? NULL : malloc((size_t)len + 1);
    rewind(file);
    if (!data || fread(data, 1, (size_t)len, file) != (size_t)len)
        give_up("cannot be read", path);
    fclose(file);
    *len_bytes = (u64)len;
    return data;
}

static void read_config(const char *path)
{
    char message[CONFIG_MESSAGE_BYTES];
    u64 len_bytes;
    u8 *text = read_whole(path, &len_bytes);
    if (config_parse((const char *)text, len_bytes, &described.config, message)) {
        fprintf(stderr, "%s\n", message);
        exit(1);
    }
    free(text);
}

static void add_file(const char *argument)
{
    const char *equals = strrchr(argument, '=');
    size_t len = equals ? (size_t)(equals - argument) : 0;
    struct file *file = &described.files[described.file_count];
    if (!len || len >= sizeof file->path || described.file_count == FILES_MAX)
        give_up("no PATH=FILE, or too many", argument);
    memcpy(file->path, argument, len);
    file->data = read_whole(equals + 1, &file->len_bytes);
    described.file_count++;
}

static void write_pieces(const struct guest_image *image, const u8 *shim)
{
    printf("%s %s\n", guest_image_is_flat(image->config) ? "flat" : "linux", image->config->name);
    for (u32 i = 0; i < image->count; i++) {
        const struct guest_piece *piece = &image->pieces[i];
        const u8 *bytes = piece->bytes == shim_image ? shim : piece->bytes;
        printf("piece %llx %llx %s\n", (unsigned long long)piece->start.raw,
               (unsigned long long)piece->len_bytes, piece->what);
        fwrite(bytes, 1, piece->len_bytes, stdout);
    }
    printf("end\n");
}

static enum error write_guest(const struct guest_config *config, const u8 *shim, gpa_t shared_bit)
{
    if (config->kind == GUEST_VM) {
        printf("vm %s\nend\n", config->name);
        return OK;
    }
    struct guest_pages *pages = calloc(1, sizeof *pages);
    struct guest_image image = {.config = config, .pages = pages};
    enum error error = guest_image_build(&image, shared_bit);
    if (!error)
        write_pieces(&image, shim);
    free(pages);
    return error;
}

int main(int count, char **arguments)
{
    int status = 0;
    u64 shim_bytes;
    if (count < 4)
        give_up("TAIN_CFG SHIM SHARED_BIT [PATH=FILE...] expected", "arguments");
    host_log_echo(true);
    read_config(arguments[1]);
    u8 *shim = read_whole(arguments[2], &shim_bytes);
    if (shim_bytes != PAGE_BYTES)
        give_up("is not one page", arguments[2]);
    int bit = atoi(arguments[3]);
    if (bit < PAGE_SHIFT || bit > 51)
        give_up("is no SHARED bit", arguments[3]);
    for (int i = 4; i < count; i++)
        add_file(arguments[i]);
    machine_set(&described);
    for (u32 i = 0; i < described.config.guest_count; i++)
        if (write_guest(&described.config.guests[i], shim, gpa(1ull << bit)))
            status = 1;
    for (u32 i = 0; i < described.file_count; i++)
        free((u8 *)described.files[i].data);
    free(shim);
    return fflush(stdout) ? 1 : status;
}

/* SPDX-License-Identifier: MIT */
/*
 * Fixed-width integers, kinds of address, units.
 *
 * A guest address, a host address and their frame numbers are one-field structs: mixing them
 * does not compile. `.raw` is read only where a register or a table entry is written.
 * Host virtual addresses are pointers.
 */
#ifndef BOOT_TYPES_H
#define BOOT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

#define PAGE_SHIFT 12
#define PAGE_BYTES 4096ull
#define PAGE_MASK (PAGE_BYTES - 1)
#define TABLE_ENTRIES 512
#define TABLE_SHIFT 9

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

typedef struct {
    u64 raw;
} gpa_t;
typedef struct {
    u64 raw;
} hpa_t;
typedef struct {
    u64 raw;
} gfn_t;
typedef struct {
    u64 raw;
} hfn_t;

/* No host page: never 0, which is a page like any other. */
#define HPA_NONE ((hpa_t){~0ull})

static inline gpa_t gpa(u64 raw)
{
    return (gpa_t){raw};
}
static inline hpa_t hpa(u64 raw)
{
    return (hpa_t){raw};
}
static inline gfn_t gfn(u64 raw)
{
    return (gfn_t){raw};
}
static inline gfn_t gpa_to_gfn(gpa_t address)
{
    return (gfn_t){address.raw >> PAGE_SHIFT};
}
static inline gpa_t gfn_to_gpa(gfn_t frame)
{
    return (gpa_t){frame.raw << PAGE_SHIFT};
}
static inline hfn_t hpa_to_hfn(hpa_t address)
{
    return (hfn_t){address.raw >> PAGE_SHIFT};
}
static inline hpa_t hfn_to_hpa(hfn_t frame)
{
    return (hpa_t){frame.raw << PAGE_SHIFT};
}
static inline bool hpa_is_none(hpa_t address)
{
    return address.raw == ~0ull;
}
static inline bool hpa_equal(hpa_t a, hpa_t b)
{
    return a.raw == b.raw;
}

/*
 * Level of a paging-structure entry, numbered as the TDX module does: a leaf of level L maps
 * 4 KiB << 9 * L.
 */
enum level {
    LEVEL_4K = 0,
    LEVEL_2M = 1,
    LEVEL_1G = 2,
    LEVEL_512G = 3,
};

static inline u64 level_bytes(enum level level)
{
    return PAGE_BYTES << (TABLE_SHIFT * level);
}
static inline u64 level_pages(enum level level)
{
    return 1ull << (TABLE_SHIFT * level);
}
static inline unsigned level_index(gfn_t frame, enum level level)
{
    return (frame.raw >> (TABLE_SHIFT * level)) & (TABLE_ENTRIES - 1);
}

static inline u64 align_down(u64 value, u64 power)
{
    return value & ~(power - 1);
}
static inline u64 align_up(u64 value, u64 power)
{
    return (value + power - 1) & ~(power - 1);
}
static inline bool is_aligned(u64 value, u64 power)
{
    return (value & (power - 1)) == 0;
}

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((u8 *)(pointer)-offsetof(type, member)))

#endif

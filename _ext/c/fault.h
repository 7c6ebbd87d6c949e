/* What went wrong, and where: filled by the reader and the writer, put into words in one place (_wire.pyx). */
#ifndef TW_FAULT_H
#define TW_FAULT_H

#include <stdint.h>

typedef enum {
    TW_OK = 0,
    TW_SHORT,          /* message smaller than the smallest flatbuffer: have = bytes */
    TW_OFFSET,         /* an offset points outside the message: have = target, want = message size */
    TW_VTABLE,         /* a vtable is malformed: have = its declared size */
    TW_FIELD,          /* a field lies outside its table: have = field offset, want = table size */
    TW_VECTOR,         /* a vector does not fit: have = bytes needed, want = bytes left */
    TW_DTYPE,          /* unknown element type: have = the value */
    TW_DIMENSION,      /* a negative dimension: have = the dimension */
    TW_OVERFLOW,       /* shape times itemsize does not fit into 63 bits */
    TW_NBYTES,         /* data length does not match: have = bytes, want = bytes */
    TW_STRINGS,        /* string count does not match: have = strings, want = elements */
    TW_MISPLACED,      /* data on a String tensor or strings on a numeric one: have = count */
    TW_UNION,          /* request kind missing or unknown: have = the value */
    TW_NAMES,          /* names and tensors differ in number: have = names, want = tensors */
    TW_MISSING,        /* a vector of tables or strings has an absent entry */
    TW_LIMIT,          /* over a limit of the caller's: have, want = the limit */
    TW_TOO_LARGE       /* an encoded message would reach 2 GiB: have = bytes */
} tw_status;

typedef struct {
    tw_status status;
    const char *field; /* static text: the schema's name of the field, or of the limit's parameter */
    uint64_t offset;   /* bytes from the start of the message */
    int64_t have;
    int64_t want;
} tw_fault;

static inline tw_status tw_fail(tw_fault *fault, tw_status status, const char *field, uint64_t offset, int64_t have,
                                int64_t want)
{
    fault->status = status;
    fault->field = field;
    fault->offset = offset;
    fault->have = have;
    fault->want = want;
    return status;
}

#endif

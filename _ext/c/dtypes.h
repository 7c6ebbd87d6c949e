/* The element types of the wire: one table, from which every other table is made.
 *
 * X(wire value, name, bytes an element). Values 0-12 are GraphPipe's enum Type; 13 and up are appended by us
 * (schema/graphpipe.fbs). String elements live in string_val and have no fixed size. */
#ifndef TW_DTYPES_H
#define TW_DTYPES_H

#include <stdint.h>

#define TW_DTYPES(X)          \
    X(0, NULL_TYPE, 0)        \
    X(1, UINT8, 1)            \
    X(2, INT8, 1)             \
    X(3, UINT16, 2)           \
    X(4, INT16, 2)            \
    X(5, UINT32, 4)           \
    X(6, INT32, 4)            \
    X(7, UINT64, 8)           \
    X(8, INT64, 8)            \
    X(9, FLOAT16, 2)          \
    X(10, FLOAT32, 4)         \
    X(11, FLOAT64, 8)         \
    X(12, STRING, 0)          \
    X(13, BOOL, 1)            \
    X(14, BFLOAT16, 2)        \
    X(15, COMPLEX64, 8)       \
    X(16, COMPLEX128, 16)     \
    X(17, FLOAT8_E4M3FN, 1)   \
    X(18, FLOAT8_E5M2, 1)

typedef enum {
#define X(value, name, size) TW_##name = value,
    TW_DTYPES(X)
#undef X
    TW_DTYPE_COUNT
} tw_dtype;

/* Bytes of one element; 0 for Null, String and values that are not in the table. */
static inline uint32_t tw_itemsize(uint8_t dtype)
{
    static const uint8_t sizes[TW_DTYPE_COUNT] = {
#define X(value, name, size) [value] = size,
        TW_DTYPES(X)
#undef X
    };
    return dtype < TW_DTYPE_COUNT ? sizes[dtype] : 0u;
}

#endif

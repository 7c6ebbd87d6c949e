/* The part of DLPack's ABI that a tensor in host memory needs: https://dmlc.github.io/dlpack/latest/c_api.html */
#ifndef TW_DLPACK_H
#define TW_DLPACK_H

#include <stdint.h>

#include "dtypes.h"

typedef struct {
    int32_t device_type;
    int32_t device_id;
} tw_dl_device;

typedef struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} tw_dl_dtype;

typedef struct {
    void *data;
    tw_dl_device device;
    int32_t ndim;
    tw_dl_dtype dtype;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: row-major */
    uint64_t byte_offset;
} tw_dl_tensor;

typedef struct tw_dl_managed {
    tw_dl_tensor tensor;
    void *context;
    void (*deleter)(struct tw_dl_managed *self);
} tw_dl_managed;

enum { TW_DL_CPU = 1, TW_DL_CUDA_HOST = 3 };

/* X(type code, bits, our dtype) */
#define TW_DL_DTYPES(X)      \
    X(0, 8, TW_INT8)         \
    X(0, 16, TW_INT16)       \
    X(0, 32, TW_INT32)       \
    X(0, 64, TW_INT64)       \
    X(1, 8, TW_UINT8)        \
    X(1, 16, TW_UINT16)      \
    X(1, 32, TW_UINT32)      \
    X(1, 64, TW_UINT64)      \
    X(2, 16, TW_FLOAT16)     \
    X(2, 32, TW_FLOAT32)     \
    X(2, 64, TW_FLOAT64)     \
    X(4, 16, TW_BFLOAT16)    \
    X(5, 64, TW_COMPLEX64)   \
    X(5, 128, TW_COMPLEX128) \
    X(6, 8, TW_BOOL)         \
    X(10, 8, TW_FLOAT8_E4M3FN) \
    X(12, 8, TW_FLOAT8_E5M2)

/* Our dtype for DLPack's, TW_NULL_TYPE when there is none. */
static inline uint8_t tw_from_dl(tw_dl_dtype dtype)
{
#define X(c, b, ours)                                                  \
    if (dtype.code == c && dtype.bits == b && dtype.lanes == 1)        \
        return ours;
    TW_DL_DTYPES(X)
#undef X
    return TW_NULL_TYPE;
}

static inline tw_dl_dtype tw_to_dl(uint8_t dtype)
{
#define X(c, b, ours)   \
    if (dtype == ours)  \
        return (tw_dl_dtype){c, b, 1};
    TW_DL_DTYPES(X)
#undef X
    return (tw_dl_dtype){0, 0, 0};
}

#endif

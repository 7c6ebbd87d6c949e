#include "writer.h"

#include <string.h>

/* Offsets are signed 32-bit in places, so flatbuffers end below 2 GiB. */
#define MESSAGE_END ((uint64_t)1 << 31)

/* Table layouts that repeat within a message and therefore share one vtable. */
enum { NUMERIC_TENSOR, STRING_TENSOR, SPEC, ERROR, OWN_VTABLE };

enum { MAX_FIELDS = 10 };

static uint8_t *place(tw_out *out, uint64_t pos)
{
    return out->base + (pos - out->external);
}

static void put(tw_out *out, const void *data, uint64_t n)
{
    if (out->base && n)
        memcpy(place(out, out->pos), data, n);
    out->pos += n;
}

static void put_zeros(tw_out *out, uint64_t n)
{
    if (out->base)
        memset(place(out, out->pos), 0, n);
    out->pos += n;
}

static void put32(tw_out *out, uint32_t value)
{
    put(out, &value, sizeof value);
}

/* Pad until `ahead` bytes further on there is a multiple of `to`, a power of two. */
static void align(tw_out *out, uint64_t ahead, uint64_t to)
{
    put_zeros(out, (0 - (out->pos + ahead)) & (to - 1));
}

/* Writes to a place already put. All such places come before the first external payload. */
static void set(tw_out *out, uint64_t pos, const void *data, size_t n)
{
    if (out->base)
        memcpy(out->base + pos, data, n);
}

static void set_offset(tw_out *out, uint64_t site, uint64_t target)
{
    uint32_t offset = (uint32_t)(target - site);
    set(out, site, &offset, sizeof offset);
}

/* A table whose field i takes sizes[i] bytes (0: absent), zero-filled; at[i] receives the place of field i. */
static uint64_t put_table(tw_out *out, int kind, unsigned fields, const uint8_t *sizes, uint64_t *at)
{
    uint16_t vtable[2 + MAX_FIELDS] = {0};
    uint16_t end = 4;
    unsigned used = 0;
    for (uint8_t size = 8; size; size = (uint8_t)(size == 8 ? 4 : size == 4 ? 1 : 0))
        for (unsigned i = 0; i < fields; i++)
            if (sizes[i] == size) {
                vtable[2 + i] = end;
                end = (uint16_t)(end + size);
                used = i + 1 > used ? i + 1 : used;
            }
    vtable[0] = (uint16_t)(4 + 2 * used);
    vtable[1] = end;
    uint64_t shared = kind == OWN_VTABLE ? 0 : out->vtables[kind];
    if (!shared) {
        align(out, 0, 2);
        shared = out->pos;
        if (kind != OWN_VTABLE)
            out->vtables[kind] = shared;
        put(out, vtable, vtable[0]);
    }
    align(out, 4, 8); /* fields of eight bytes come right behind the first four */
    uint64_t table = out->pos;
    put32(out, (uint32_t)(table - shared));
    put_zeros(out, (uint64_t)end - 4);
    for (unsigned i = 0; i < fields; i++)
        at[i] = table + vtable[2 + i];
    return table;
}

static void put_text(tw_out *out, uint64_t site, tw_chars text)
{
    align(out, 0, 4);
    set_offset(out, site, out->pos);
    put32(out, (uint32_t)text.size);
    put(out, text.data, text.size);
    put_zeros(out, 1); /* flatbuffers strings end with a NUL that is not counted */
}

/* A vector of `count` offsets yet to be set; returns the place of the first. */
static uint64_t put_offsets(tw_out *out, uint64_t site, uint64_t count)
{
    align(out, 0, 4);
    set_offset(out, site, out->pos);
    put32(out, (uint32_t)count);
    uint64_t first = out->pos;
    put_zeros(out, 4 * count);
    return first;
}

static void put_texts(tw_out *out, uint64_t site, const tw_chars *texts, uint64_t count)
{
    uint64_t first = put_offsets(out, site, count);
    for (uint64_t i = 0; i < count; i++)
        put_text(out, first + 4 * i, texts[i]);
}

static void put_shape(tw_out *out, uint64_t site, const int64_t *shape, uint32_t ndim)
{
    align(out, 4, 8);
    set_offset(out, site, out->pos);
    put32(out, ndim);
    put(out, shape, 8 * (uint64_t)ndim);
}

/* Shape and data are written even when empty: readers made for the original take them as present. */
static void put_tensor_table(tw_out *out, uint64_t site, tw_part *part)
{
    bool text = part->dtype == TW_STRING;
    const uint8_t sizes[4] = {1, 4, (uint8_t)(text ? 0 : 4), (uint8_t)(text ? 4 : 0)};
    uint64_t at[4];
    set_offset(out, site, put_table(out, text ? STRING_TENSOR : NUMERIC_TENSOR, 4, sizes, at));
    set(out, at[0], &part->dtype, 1);
    put_shape(out, at[1], part->shape, part->ndim);
    part->site = at[text ? 3 : 2];
    if (text)
        put_texts(out, part->site, part->strings, part->count);
}

static void put_payload(tw_out *out, tw_part *part)
{
    align(out, 4, TW_PAYLOAD_ALIGN);
    set_offset(out, part->site, out->pos);
    put32(out, (uint32_t)part->nbytes);
    part->header_end = tw_header_size(out);
    if (part->inlined) {
        put(out, part->data, part->nbytes);
        return;
    }
    out->pos += part->nbytes;
    out->external += part->nbytes;
}

static void put_tensor_tables(tw_out *out, uint64_t site, tw_parts parts)
{
    uint64_t first = put_offsets(out, site, parts.count);
    for (uint32_t i = 0; i < parts.count; i++)
        put_tensor_table(out, first + 4 * (uint64_t)i, &parts.items[i]);
}

static void put_payloads(tw_out *out, tw_parts parts)
{
    for (uint32_t i = 0; i < parts.count; i++)
        if (parts.items[i].dtype != TW_STRING)
            put_payload(out, &parts.items[i]);
}

static tw_status finish(const tw_out *out, tw_fault *fault)
{
    if (out->pos >= MESSAGE_END)
        return tw_fail(fault, TW_TOO_LARGE, "message", 0, (int64_t)out->pos, (int64_t)MESSAGE_END);
    return TW_OK;
}

/* The root offset and table Request; returns the place for the offset of the union's table. */
static uint64_t put_request(tw_out *out, uint8_t kind)
{
    uint64_t at[2];
    put32(out, 0);
    set_offset(out, 0, put_table(out, OWN_VTABLE, 2, (const uint8_t[]){1, 4}, at));
    set(out, at[0], &kind, 1);
    return at[1];
}

static uint8_t if_text(tw_chars text)
{
    return text.size ? 4 : 0;
}

tw_status tw_write_request(tw_out *out, tw_request_parts *p, tw_fault *fault)
{
    uint64_t req = put_request(out, 1), at[10];
    const uint8_t sizes[10] = {
        if_text(p->config), (uint8_t)(p->input_names.count ? 4 : 0), 4, (uint8_t)(p->output_names.count ? 4 : 0),
        if_text(p->model_name), (uint8_t)(p->model_version ? 8 : 0), if_text(p->model_label), if_text(p->signature),
        if_text(p->request_id), (uint8_t)(p->deadline_ms ? 8 : 0)};
    set_offset(out, req, put_table(out, OWN_VTABLE, 10, sizes, at));
    const struct { unsigned id; tw_chars text; } texts[] = {
        {0, p->config}, {4, p->model_name}, {6, p->model_label}, {7, p->signature}, {8, p->request_id}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].text.size)
            put_text(out, at[texts[i].id], texts[i].text);
    if (p->model_version)
        set(out, at[5], &p->model_version, 8);
    if (p->deadline_ms)
        set(out, at[9], &p->deadline_ms, 8);
    if (p->input_names.count)
        put_texts(out, at[1], p->input_names.items, p->input_names.count);
    if (p->output_names.count)
        put_texts(out, at[3], p->output_names.items, p->output_names.count);
    put_tensor_tables(out, at[2], p->inputs);
    put_payloads(out, p->inputs);
    return finish(out, fault);
}

tw_status tw_write_metadata_request(tw_out *out, tw_fault *fault)
{
    uint64_t req = put_request(out, 2), at[1];
    set_offset(out, req, put_table(out, OWN_VTABLE, 0, NULL, at));
    return finish(out, fault);
}

tw_status tw_write_response(tw_out *out, tw_response_parts *p, tw_fault *fault)
{
    uint64_t at[3];
    const uint8_t sizes[3] = {4, 4, (uint8_t)(p->output_names.count ? 4 : 0)};
    put32(out, 0);
    set_offset(out, 0, put_table(out, OWN_VTABLE, 3, sizes, at));
    uint64_t first = put_offsets(out, at[1], p->error_count);
    for (uint32_t i = 0; i < p->error_count; i++) {
        uint64_t field[2];
        uint64_t table = put_table(out, ERROR, 2, (const uint8_t[]){8, 4}, field);
        set_offset(out, first + 4 * (uint64_t)i, table);
        set(out, field[0], &p->errors[i].code, 8);
        put_text(out, field[1], p->errors[i].message);
    }
    if (p->output_names.count)
        put_texts(out, at[2], p->output_names.items, p->output_names.count);
    put_tensor_tables(out, at[0], p->outputs);
    put_payloads(out, p->outputs);
    return finish(out, fault);
}

static void put_specs(tw_out *out, uint64_t site, const tw_spec_part *specs, uint32_t count)
{
    uint64_t first = put_offsets(out, site, count), at[4];
    for (uint32_t i = 0; i < count; i++) {
        set_offset(out, first + 4 * (uint64_t)i, put_table(out, SPEC, 4, (const uint8_t[]){4, 4, 4, 1}, at));
        set(out, at[3], &specs[i].dtype, 1);
        put_text(out, at[0], specs[i].name);
        put_text(out, at[1], specs[i].description);
        put_shape(out, at[2], specs[i].shape, specs[i].ndim);
    }
}

tw_status tw_write_metadata(tw_out *out, tw_metadata_parts *p, tw_fault *fault)
{
    uint64_t at[6];
    put32(out, 0);
    set_offset(out, 0, put_table(out, OWN_VTABLE, 6, (const uint8_t[]){4, 4, 4, 4, 4, 4}, at));
    put_text(out, at[0], p->name);
    put_text(out, at[1], p->version);
    put_text(out, at[2], p->server);
    put_text(out, at[3], p->description);
    put_specs(out, at[4], p->inputs, p->input_count);
    put_specs(out, at[5], p->outputs, p->output_count);
    return finish(out, fault);
}

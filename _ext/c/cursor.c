#include "cursor.h"

enum { VTABLE_HEAD = 4, OFFSET_BYTES = 4 };

/* Follow the uoffset that stands at `pos` (checked by the caller) to a place with at least `n` bytes after it. */
static tw_status follow(tw_bytes in, size_t pos, size_t n, const char *field, size_t *target, tw_fault *fault)
{
    uint32_t offset = tw_load32(in, pos);
    if (offset == 0)
        return tw_fail(fault, TW_MISSING, field, pos, 0, 0);
    if (offset > in.size - pos)
        return tw_fail(fault, TW_OFFSET, field, pos, (int64_t)(pos + offset), (int64_t)in.size);
    if (!tw_fits(in, pos + offset, n))
        return tw_fail(fault, TW_OFFSET, field, pos, (int64_t)(pos + offset), (int64_t)in.size);
    *target = pos + offset;
    return TW_OK;
}

tw_status tw_table_at(tw_bytes in, size_t pos, const char *field, tw_table *table, tw_fault *fault)
{
    if (!tw_fits(in, pos, 4))
        return tw_fail(fault, TW_OFFSET, field, pos, (int64_t)pos, (int64_t)in.size);
    /* The distance to the vtable is signed: it may stand before or after its table. */
    int64_t vtable = (int64_t)pos - (int32_t)tw_load32(in, pos);
    if (vtable < 0 || !tw_fits(in, (size_t)vtable, VTABLE_HEAD))
        return tw_fail(fault, TW_OFFSET, field, pos, vtable, (int64_t)in.size);
    uint16_t vsize = tw_load16(in, (size_t)vtable);
    uint16_t size = tw_load16(in, (size_t)vtable + 2);
    if (vsize < VTABLE_HEAD || vsize % 2 != 0 || !tw_fits(in, (size_t)vtable, vsize))
        return tw_fail(fault, TW_VTABLE, field, (uint64_t)vtable, vsize, 0);
    if (size < 4 || !tw_fits(in, pos, size))
        return tw_fail(fault, TW_VTABLE, field, (uint64_t)vtable + 2, size, 0);
    table->in = in;
    table->pos = pos;
    table->vtable = (size_t)vtable;
    table->vsize = vsize;
    table->size = size;
    return TW_OK;
}

tw_status tw_root(tw_bytes in, tw_table *table, tw_fault *fault)
{
    size_t pos = 0;
    if (in.size < 8)
        return tw_fail(fault, TW_SHORT, "message", 0, (int64_t)in.size, 8);
    tw_status status = follow(in, 0, 4, "root", &pos, fault);
    return status ? status : tw_table_at(in, pos, "root", table, fault);
}

tw_status tw_field(const tw_table *table, unsigned id, size_t n, const char *field, size_t *pos, tw_fault *fault)
{
    size_t slot = VTABLE_HEAD + 2 * (size_t)id;
    *pos = 0;
    if (slot + 2 > table->vsize)
        return TW_OK;
    uint16_t offset = tw_load16(table->in, table->vtable + slot);
    if (offset == 0)
        return TW_OK;
    if (offset < 4 || offset > table->size || n > (size_t)table->size - offset)
        return tw_fail(fault, TW_FIELD, field, table->vtable + slot, offset, table->size);
    *pos = table->pos + offset;
    return TW_OK;
}

tw_status tw_field_u8(const tw_table *table, unsigned id, const char *field, uint8_t *value, tw_fault *fault)
{
    size_t pos;
    tw_status status = tw_field(table, id, 1, field, &pos, fault);
    if (!status)
        *value = pos ? table->in.base[pos] : 0;
    return status;
}

tw_status tw_field_i64(const tw_table *table, unsigned id, const char *field, int64_t *value, tw_fault *fault)
{
    size_t pos;
    tw_status status = tw_field(table, id, 8, field, &pos, fault);
    if (!status)
        *value = pos ? tw_load64(table->in, pos) : 0;
    return status;
}

/* The vector whose offset stands at `pos`. */
static tw_status vector_at(tw_bytes in, size_t pos, size_t itemsize, const char *field, tw_vector *vector,
                           tw_fault *fault)
{
    size_t head;
    tw_status status = follow(in, pos, 4, field, &head, fault);
    if (status)
        return status;
    uint32_t count = tw_load32(in, head);
    size_t left = in.size - head - 4;
    if (count > left / itemsize)
        return tw_fail(fault, TW_VECTOR, field, head, (int64_t)((uint64_t)count * itemsize), (int64_t)left);
    vector->in = in;
    vector->pos = head + 4;
    vector->count = count;
    return TW_OK;
}

static tw_status text_at(tw_bytes in, size_t pos, const char *field, tw_text *text, tw_fault *fault)
{
    tw_vector chars;
    tw_status status = vector_at(in, pos, 1, field, &chars, fault);
    if (status)
        return status;
    text->data = (const char *)in.base + chars.pos;
    text->size = chars.count;
    text->offset = chars.pos;
    return TW_OK;
}

tw_status tw_field_text(const tw_table *table, unsigned id, const char *field, tw_text *text, tw_fault *fault)
{
    size_t pos;
    tw_status status = tw_field(table, id, OFFSET_BYTES, field, &pos, fault);
    if (status)
        return status;
    if (!pos) {
        *text = (tw_text){NULL, 0, 0};
        return TW_OK;
    }
    return text_at(table->in, pos, field, text, fault);
}

tw_status tw_field_vector(const tw_table *table, unsigned id, size_t itemsize, const char *field, tw_vector *vector,
                          tw_fault *fault)
{
    size_t pos;
    tw_status status = tw_field(table, id, OFFSET_BYTES, field, &pos, fault);
    if (status)
        return status;
    if (!pos) {
        *vector = (tw_vector){table->in, 0, 0};
        return TW_OK;
    }
    return vector_at(table->in, pos, itemsize, field, vector, fault);
}

tw_status tw_field_table(const tw_table *table, unsigned id, const char *field, bool *present, tw_table *child,
                         tw_fault *fault)
{
    size_t pos, target;
    tw_status status = tw_field(table, id, OFFSET_BYTES, field, &pos, fault);
    *present = false;
    if (status || !pos)
        return status;
    status = follow(table->in, pos, 4, field, &target, fault);
    if (status)
        return status;
    *present = true;
    return tw_table_at(table->in, target, field, child, fault);
}

tw_status tw_vector_table(const tw_vector *vector, uint32_t i, const char *field, tw_table *table, tw_fault *fault)
{
    size_t target;
    tw_status status = follow(vector->in, vector->pos + OFFSET_BYTES * (size_t)i, 4, field, &target, fault);
    return status ? status : tw_table_at(vector->in, target, field, table, fault);
}

tw_status tw_vector_text(const tw_vector *vector, uint32_t i, const char *field, tw_text *text, tw_fault *fault)
{
    return text_at(vector->in, vector->pos + OFFSET_BYTES * (size_t)i, field, text, fault);
}

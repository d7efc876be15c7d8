//! The ACL document: the owner has full control, and nobody else has anything.

use bytes::Bytes;

use crate::xml::Owner;
use crate::xml::writer::XmlWriter;

/// The answer to GetBucketAcl and GetObjectAcl.
pub fn owner_full_control(owner: Owner<'_>) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("AccessControlPolicy");
    owner.write("Owner", &mut xml);
    xml.open("AccessControlList");
    xml.open("Grant");
    xml.open_typed("Grantee", "CanonicalUser");
    xml.text("ID", owner.id);
    xml.text("DisplayName", owner.display_name);
    xml.close("Grantee");
    xml.text("Permission", "FULL_CONTROL");
    xml.close("Grant");
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml.finish()
}

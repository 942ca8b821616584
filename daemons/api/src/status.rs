//! Failures as gRPC statuses and back, understood by our own tools and by Dragonfly v1 clients.

use std::error::Error;

use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code as GrpcCode, Status};

use crate::base::{Code as V1Code, FailureDetail, GrpcDfError, RichDetail, RichStatus};
use crate::failure::{Code, Failure};

const V1_TYPE: &str = "type.googleapis.com/base.GrpcDfError";
const OWN_TYPE: &str = "type.googleapis.com/base.FailureDetail";

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = v1_code(failure.code);
        with_v1_code(failure, code)
    }
}

/// The status of a failure, with the code a v1 client is to find in it.
pub fn with_v1_code(failure: Failure, code: V1Code) -> Status {
    let v1 = GrpcDfError { code: code.into(), message: failure.to_string() };
    let (code, message) = (grpc_code(failure.code), failure.to_string());
    let details = vec![
        RichDetail { type_url: V1_TYPE.to_owned(), value: v1.encode_to_vec() },
        RichDetail { type_url: OWN_TYPE.to_owned(), value: FailureDetail::from(failure).encode_to_vec() },
    ];
    let rich = RichStatus { code: code.into(), message: message.clone(), details };
    Status::with_details_and_metadata(code, message, rich.encode_to_vec().into(), MetadataMap::new())
}

impl From<Failure> for FailureDetail {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.name().to_owned(),
            message: failure.message,
            cause: failure.cause.unwrap_or_default(),
            hint: failure.hint.unwrap_or_default(),
            http_status: failure.http_status.unwrap_or_default().into(),
        }
    }
}

impl From<FailureDetail> for Failure {
    fn from(detail: FailureDetail) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            code: Code::from_name(&detail.code).unwrap_or(Code::Internal),
            message: detail.message,
            cause: some(detail.cause),
            hint: some(detail.hint),
            http_status: u16::try_from(detail.http_status).ok().filter(|status| *status != 0),
        }
    }
}

/// The failure a status carries; without our detail, the nearest the status itself says.
pub fn failure_of(status: &Status) -> Failure {
    let rich = RichStatus::decode(status.details()).unwrap_or_default();
    let own = rich.details.iter().find(|detail| detail.type_url == OWN_TYPE);
    if let Some(detail) = own.and_then(|detail| FailureDetail::decode(&detail.value[..]).ok()) {
        return detail.into();
    }
    let code = match status.code() {
        GrpcCode::InvalidArgument => Code::Usage,
        GrpcCode::NotFound => Code::NotFound,
        GrpcCode::AlreadyExists => Code::Exists,
        GrpcCode::PermissionDenied => Code::Blocked,
        GrpcCode::Unauthenticated => Code::Auth,
        GrpcCode::ResourceExhausted => Code::Busy,
        GrpcCode::DeadlineExceeded => Code::Timeout,
        GrpcCode::Unavailable => Code::Network,
        GrpcCode::Cancelled => Code::Cancelled,
        // Not said by the other side but made here: the connection broke in the middle.
        GrpcCode::Unknown if status.source().is_some() => Code::Network,
        _ => Code::Internal,
    };
    Failure::new(code, status.message())
}

const fn grpc_code(code: Code) -> GrpcCode {
    match code {
        Code::Internal | Code::LocalIo => GrpcCode::Internal,
        Code::Usage => GrpcCode::InvalidArgument,
        Code::Network | Code::DaemonDown | Code::NoScheduler | Code::Tls => GrpcCode::Unavailable,
        Code::Auth => GrpcCode::Unauthenticated,
        Code::Protocol | Code::OriginStatus => GrpcCode::FailedPrecondition,
        Code::NoSpace | Code::Busy => GrpcCode::ResourceExhausted,
        Code::NotFound => GrpcCode::NotFound,
        Code::Exists => GrpcCode::AlreadyExists,
        Code::Blocked => GrpcCode::PermissionDenied,
        Code::Timeout => GrpcCode::DeadlineExceeded,
        Code::Digest => GrpcCode::DataLoss,
        Code::Cancelled => GrpcCode::Cancelled,
    }
}

const fn v1_code(code: Code) -> V1Code {
    match code {
        Code::Usage => V1Code::BadRequest,
        Code::NotFound => V1Code::PeerTaskNotFound,
        Code::Timeout => V1Code::RequestTimeOut,
        Code::OriginStatus | Code::Auth | Code::Protocol | Code::Tls => V1Code::ClientBackSourceError,
        Code::Network => V1Code::ClientConnectionError,
        Code::Digest => V1Code::ClientPieceDownloadFail,
        Code::Busy => V1Code::ClientRequestLimitFail,
        Code::NoSpace | Code::LocalIo | Code::Exists | Code::Blocked => V1Code::ClientError,
        Code::NoScheduler => V1Code::SchedError,
        Code::DaemonDown => V1Code::ServerUnavailable,
        Code::Cancelled => V1Code::ClientContextCanceled,
        Code::Internal => V1Code::UnknownError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_not_the_other_sides_fault() {
        let broken = Status::from_error(Box::new(std::io::Error::other("transport error")));
        assert_eq!(failure_of(&broken).code, Code::Network);
        assert_eq!(failure_of(&Status::unknown("a panic over there")).code, Code::Internal);
    }

    #[test]
    fn every_failure_survives_the_wire() {
        for code in Code::ALL {
            let failure = Failure::new(code, "what").because("why").hint("do").http_status(404);
            assert_eq!(failure_of(&Status::from(failure.clone())), failure);
        }
    }

    #[test]
    fn a_v1_client_finds_its_code() {
        let status = Status::from(Failure::new(Code::NotFound, "no such task"));
        let rich = RichStatus::decode(status.details()).unwrap();
        let v1 = GrpcDfError::decode(&rich.details[0].value[..]).unwrap();
        assert_eq!((rich.details[0].type_url.as_str(), v1.code), (V1_TYPE, 1404));
    }

    #[test]
    fn a_foreign_status_becomes_the_nearest_failure() {
        assert_eq!(failure_of(&Status::not_found("x")).code, Code::NotFound);
        let garbled = Status::with_details(GrpcCode::Unavailable, "x", vec![0xff; 9].into());
        assert_eq!(failure_of(&garbled).code, Code::Network);
    }
}
